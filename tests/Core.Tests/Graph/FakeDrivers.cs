using System.Text;

namespace ImageMount.Core.Tests.Graph;

/// <summary>
/// A little world of files in memory, with a protocol, a format that refers to other images, and a filter.
/// </summary>
internal sealed class FakeWorld
{
    public FakeWorld() => Registry = new DriverRegistry(
    [
        new FakeFile(this), new FakeRemote(this), new FakeFormat(this), new OtherFormat(), new FakeRaw(),
        new FakeFilter(this), new FakeWrapper(this),
    ]);

    public DriverRegistry Registry { get; }

    /// <summary>Content by path; a name that a test did not put there does not exist.</summary>
    public Dictionary<string, byte[]> Files { get; } = [];

    /// <summary>"open NAME" and "close NAME", in order.</summary>
    public List<string> Log { get; } = [];

    /// <summary>How each file was opened last.</summary>
    public Dictionary<string, OpenFlags> OpenedWith { get; } = [];

    /// <summary>Names of files that fail to close.</summary>
    public HashSet<string> FailsToClose { get; } = [];

    /// <summary>Identities by path; without one a file has none.</summary>
    public Dictionary<string, string> Identities { get; } = [];

    public GraphOpener Opener => new(Registry);

    /// <summary>An image of the fake format: lines "role|reference|driver|writable".</summary>
    public void AddImage(string path, params string[] references) =>
        Files[path] = Encoding.UTF8.GetBytes("FAKE\n" + string.Concat(references.Select(line => line + "\n")));

    public void AddRaw(string path) => Files[path] = TestPattern.Make(5000, 0, path.Length);

    public ValueTask<ImageMount.Core.Graph.Graph> OpenAsync(string source, OpenFlags? flags = null) =>
        Opener.OpenAsync(source, flags ?? TestGraph.ReadOnly);

    public ValueTask<ImageMount.Core.Graph.Graph> OpenOptionsAsync(string options, OpenFlags? flags = null) =>
        Opener.OpenAsync(OptionSyntax.ParsePairs(options), flags ?? TestGraph.ReadOnly);

    public async Task<BlockException> FailsAsync(string source, OpenFlags? flags = null)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(source, flags));
        AssertAllClosed();
        return e;
    }

    public void AssertAllClosed()
    {
        int opened = Log.Count(line => line.StartsWith("open ", StringComparison.Ordinal));
        Assert.Equal(opened, Log.Count(line => line.StartsWith("close ", StringComparison.Ordinal)));
    }
}

/// <summary>Bytes of a fake file; logs its closing.</summary>
internal sealed class FakeFileDevice(FakeWorld world, string path) : BlockDevice, IHasIdentity
{
    public string Identity => world.Identities.GetValueOrDefault(path) ?? $"fake:{path}";

    public override long Length => world.Files[path].Length;

    public override BlockCapabilities Capabilities => BlockCapabilities.Write;

    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        world.Files[path].AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span);
        return default;
    }

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        buffer.Span.CopyTo(world.Files[path].AsSpan((int)offset));
        world.Log.Add($"write {path}");
        return default;
    }

    public override ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        world.Log.Add($"flush {path}");
        return default;
    }

    public override ValueTask CloseAsync()
    {
        world.Log.Add($"close file {path}");
        return world.FailsToClose.Contains(path)
            ? throw new BlockException(BlockErrorKind.IoError, "cannot close") : default;
    }
}

internal sealed record FakeFileOptions
{
    [Option("filename", "Path.", Required = true)]
    public string Filename { get; init; } = "";

    [Option("locking", "Locks.")]
    public LockingMode Locking { get; init; }
}

internal class FakeFile(FakeWorld world) : BlockDriver<FakeFileOptions>
{
    public override string Name => "file";

    public override DriverKind Kind => DriverKind.Protocol;

    public override string Summary => "A file in memory.";

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FakeFileOptions options, CancellationToken cancellationToken)
    {
        if (!world.Files.ContainsKey(options.Filename))
        {
            throw new BlockException(BlockErrorKind.NotFound, "no such file");
        }

        world.Log.Add($"open file {options.Filename}");
        world.OpenedWith[options.Filename] = context.Flags;
        return new(new FakeFileDevice(world, options.Filename));
    }
}

internal sealed record FakeRemoteOptions
{
    [Option("url", "Address.", Required = true)]
    public string Url { get; init; } = "";
}

internal sealed class FakeRemote(FakeWorld world) : BlockDriver<FakeRemoteOptions>
{
    public override string Name => "remote";

    public override DriverKind Kind => DriverKind.Protocol;

    public override string Summary => "A file elsewhere.";

    public override IReadOnlyList<string> UriSchemes => ["remote", "old"];

    public override OptionMap ParseUri(string uri)
    {
        var map = new OptionMap();
        map.Set("url", uri);
        return map;
    }

    public override string? Locate(object options) => ((FakeRemoteOptions)options).Url;

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FakeRemoteOptions options, CancellationToken cancellationToken)
    {
        world.Log.Add($"open file {options.Url}");
        return world.Files.ContainsKey(options.Url)
            ? new(new FakeFileDevice(world, options.Url))
            : throw Missing();

        BlockException Missing()
        {
            world.Log.RemoveAt(world.Log.Count - 1);
            return new BlockException(BlockErrorKind.NotFound, "no such file elsewhere");
        }
    }
}

[ChildOption("backing", "The parent.")]
[ChildOption("data-file", "Where the data is.")]
[ChildOption("extents", "Parts.", IsList = true)]
internal sealed record FakeFormatOptions
{
    [Option("lazy", "Does nothing now.")]
    public bool Lazy { get; init; }

    [Option("fail", "Fails after its children are open.")]
    public bool Fail { get; init; }
}

internal sealed class FakeFormatDevice(FakeWorld world, string name, BlockNode file, List<BlockChild> children)
    : BlockDevice, ISnapshotSource
{
    public override long Length => file.Length;

    public override BlockCapabilities Capabilities => BlockCapabilities.Write;

    public override IReadOnlyList<BlockChild> Children => children;

    public IReadOnlyList<SnapshotInfo> Snapshots { get; } =
    [
        new("1", "two", 100, 0, DateTimeOffset.UnixEpoch, 0, null),
        new("2", "before update", 200, 0, DateTimeOffset.UnixEpoch, 0, null),
        new("3", "twice", 300, 0, DateTimeOffset.UnixEpoch, 0, null),
        new("4", "twice", 400, 0, DateTimeOffset.UnixEpoch, 0, null),
    ];

    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        file.ReadAsync(offset, buffer, cancellationToken);

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) =>
        file.WriteAsync(offset, buffer, flags, cancellationToken);

    public override ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        world.Log.Add($"flush format {name}");
        return file.FlushAsync(cancellationToken);
    }

    public ValueTask<BlockDevice> OpenSnapshotAsync(SnapshotInfo snapshot, CancellationToken cancellationToken) =>
        new(new MemoryDevice((int)snapshot.DiskSize));

    public override ValueTask CloseAsync()
    {
        world.Log.Add($"close format {name}");
        return default;
    }
}

internal sealed class FakeFormat(FakeWorld world) : BlockDriver<FakeFormatOptions>
{
    public override string Name => "fake";

    public override DriverKind Kind => DriverKind.Format;

    public override string Summary => "Lists its children.";

    public override int Probe(in ProbeInput input) => input.Head.StartsWith("FAKE\n"u8) ? 100 : 0;

    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FakeFormatOptions options, CancellationToken cancellationToken)
    {
        var content = new byte[context.File.Length];
        await context.File.ReadAsync(0, content, cancellationToken);
        var children = new List<BlockChild> { new("file", context.File) };
        string[] lines = Encoding.UTF8.GetString(content).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        foreach (string line in lines[1..])
        {
            string[] parts = line.Split('|');
            string? driver = parts.ElementAtOrDefault(2) is { Length: > 0 } named ? named : null;
            BlockNode? child = await context.OpenChildAsync(
                parts[0], parts[1] == "-" ? null : parts[1], driver, parts.ElementAtOrDefault(3) == "writable", cancellationToken);
            if (child is not null)
            {
                children.Add(new BlockChild(parts[0], child));
            }
        }

        if (options.Fail)
        {
            throw BlockException.Invalid("the fake image is broken", 0x10);
        }

        world.Log.Add($"open format {context.NodeName}");
        return new FakeFormatDevice(world, context.NodeName, context.File, children);
    }
}

/// <summary>Recognises the same images with less certainty, so that probing has something to choose from.</summary>
internal sealed class OtherFormat : BlockDriver<OtherFormat.NoOptions>
{
    public override string Name => "other";

    public override DriverKind Kind => DriverKind.Format;

    public override string Summary => "Less certain.";

    public override int Probe(in ProbeInput input) =>
        input.Head.StartsWith("FAKE"u8) ? 50 : input.Tail.EndsWith("OTHER"u8) ? 10 : 0;

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, NoOptions options, CancellationToken cancellationToken) =>
        new(new RegionDevice(context.File, FileRegion.Choose(context.File.Length, 0, null)));

    internal sealed record NoOptions;
}

internal sealed class FakeRaw : BlockDriver<OtherFormat.NoOptions>
{
    public override string Name => "raw";

    public override DriverKind Kind => DriverKind.Format;

    public override string Summary => "Bytes.";

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, OtherFormat.NoOptions options, CancellationToken cancellationToken) =>
        new(new RegionDevice(context.File, FileRegion.Choose(context.File.Length, 0, null)));
}

/// <summary>Shows half of what is below.</summary>
internal sealed class FakeFilter(FakeWorld world) : BlockDriver<OtherFormat.NoOptions>
{
    public override string Name => "half";

    public override DriverKind Kind => DriverKind.Filter;

    public override string Summary => "Half of a disk.";

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, OtherFormat.NoOptions options, CancellationToken cancellationToken)
    {
        world.OpenedWith["half"] = context.Flags;
        return new(new RegionDevice(context.File, FileRegion.Choose(context.File.Length, 0, context.File.Length / 2)));
    }
}

/// <summary>Hides another image behind the line "WRAP".</summary>
internal sealed class FakeWrapper(FakeWorld world) : BlockDriver<OtherFormat.NoOptions>
{
    public const string Line = "WRAP\n";

    public override string Name => "wrap";

    public override DriverKind Kind => DriverKind.Format;

    public override string Summary => "Another image inside.";

    public override bool WritesFile => false;

    public override bool IsWrapper => true;

    public override int Probe(in ProbeInput input) => input.Head.StartsWith("WRAP\n"u8) ? 60 : 0;

    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, OtherFormat.NoOptions options, CancellationToken cancellationToken)
    {
        world.Log.Add($"open wrapper {context.NodeName}");
        return new(new FakeWrapperDevice(world, context.NodeName, context.File));
    }

    private sealed class FakeWrapperDevice(FakeWorld world, string name, BlockNode file) : BlockDevice
    {
        public override long Length => file.Length - Line.Length;

        public override IReadOnlyList<BlockChild> Children => [new("file", file)];

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
            file.ReadAsync(Line.Length + offset, buffer, cancellationToken);

        public override ValueTask CloseAsync()
        {
            world.Log.Add($"close wrapper {name}");
            return default;
        }
    }
}
