using ImageMount.Protocols.Files;
using FileOptions = ImageMount.Protocols.Files.FileOptions;

namespace ImageMount.TestSupport.Crash;

/// <summary>
/// The simulated files of one disk. They share one log, so that a power cut happens to all of them at one moment; a
/// flush makes durable what was written to its own file, and nothing of the others.
/// </summary>
public sealed class CrashFiles
{
    /// <summary>Where the files are for whoever opens them by name; there is no such folder on the host.</summary>
    public const string Folder = "/simulated-files";

    private readonly List<CrashDevice> _devices = [];
    private readonly List<CrashOperation> _log = [];

    /// <summary>Files with these contents, all of them durable; the first is the image that is opened.</summary>
    public CrashFiles(IEnumerable<(string Name, byte[] Content)> files)
    {
        foreach ((string name, byte[] content) in files)
        {
            _ = new CrashDevice(this, name, new SectorStore(content));
        }
    }

    internal CrashFiles()
    {
    }

    /// <summary>The image that is opened.</summary>
    public CrashDevice Main => _devices[0];

    /// <summary>All files; <see cref="Main"/> is the first.</summary>
    public IReadOnlyList<CrashDevice> Devices => _devices;

    /// <summary>Number of changes of all files so far.</summary>
    public int OperationCount
    {
        get
        {
            lock (Sync)
            {
                return _log.Count;
            }
        }
    }

    /// <summary>All changes of all files so far, in the order in which they happened.</summary>
    public IReadOnlyList<CrashOperation> Log
    {
        get
        {
            lock (Sync)
            {
                return [.. _log];
            }
        }
    }

    /// <summary>Guards the log and the contents of the files.</summary>
    internal Lock Sync { get; } = new();

    /// <summary>The files to which the one of a node belongs.</summary>
    public static CrashFiles Of(BlockNode node) => ((CrashDevice)node.Device).Files;

    /// <summary>
    /// Opens the image by its name, so that what it refers to is looked for among the files here. Other paths lead to
    /// the host.
    /// </summary>
    public ValueTask<Graph> OpenAsync(string driver, OpenFlags flags, OptionMap? options = null)
    {
        OptionMap image = options?.Clone() ?? new OptionMap();
        image.Set("driver", driver);
        string role = image.GetMap("file") is null ? "file" : "file.file"; // Options may put a driver between them.
        image.SetPath(role + ".driver", "file");
        image.SetPath(role + ".filename", $"{Folder}/{Main.Name}");
        IEnumerable<BlockDriver> drivers = TestGraph.Registry.Drivers.Where(known => known.Name != "file");
        var opener = new GraphOpener(new DriverRegistry([.. drivers, new Driver(this)]));
        return opener.OpenAsync(image, flags);
    }

    /// <summary>Writes all files to a folder of the host; returns the path of the image.</summary>
    public string SaveTo(string folder)
    {
        foreach (CrashDevice device in _devices)
        {
            device.SaveTo(Path.Join(folder, device.Name));
        }

        return Path.Join(folder, Main.Name);
    }

    /// <summary>A node over the image alone.</summary>
    internal BlockNode MakeNode() => new("crash-image", "test", Main);

    /// <summary>Adds a file; returns its index.</summary>
    internal int Add(CrashDevice device)
    {
        _devices.Add(device);
        return _devices.Count - 1;
    }

    /// <summary>Notes a change; under the lock.</summary>
    internal void Record(CrashOperation operation) => _log.Add(operation);

    /// <summary>The protocol "file", with the files here in a folder of their own.</summary>
    private sealed class Driver(CrashFiles files) : BlockDriver<FileOptions>
    {
        private readonly FileDriver _host = new();

        public override string Name => _host.Name;

        public override DriverKind Kind => _host.Kind;

        public override string Summary => _host.Summary;

        protected override ValueTask<BlockDevice> OpenAsync(
            OpenContext context, FileOptions options, CancellationToken cancellationToken)
        {
            if (Path.GetDirectoryName(options.Filename) != Folder)
            {
                return _host.OpenAsync(context, (object)options, cancellationToken);
            }

            string name = Path.GetFileName(options.Filename);
            return new(files._devices.Find(device => device.Name == name)
                ?? throw new BlockException(BlockErrorKind.NotFound, $"there is no simulated file '{name}'"));
        }
    }
}
