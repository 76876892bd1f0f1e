using System.Text;
using ImageMount.Interop;
using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Journal;
using ImageMount.VirtualFat.Volume;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>
/// A folder, and the disk that it is shown as: made by mkfs.fat and mtools instead of the planner, so that writing is
/// tested by itself. Writes are what a program changes in a copy of the disk.
/// </summary>
internal sealed class WrittenFolder : IDisposable
{
    private readonly TempDir _dir = new();
    private readonly byte[] _plan;
    private readonly VolumeTree _tree;
    private readonly SafeFileHandle _root;
    private readonly FolderState _planned;
    private readonly HostLack _lack;
    private readonly Action<string>? _journalHook;

    /// <summary>Makes folder and disk.</summary>
    /// <param name="fill">Fills the folder.</param>
    /// <param name="kibibytes">Size of the disk.</param>
    /// <param name="options">For mkfs.fat.</param>
    public WrittenFolder(Action<string> fill, int kibibytes = 1440, params string[] options)
    {
        Directory.CreateDirectory(Folder);
        fill(Folder);
        Mtools.Format(Image, kibibytes, options);
        string[] entries = Directory.GetFileSystemEntries(Folder);
        if (entries.Length > 0)
        {
            Mtools.On(Image, "mcopy", ["-s", "-m", "-Q", .. entries, "::"]);
        }

        _plan = File.ReadAllBytes(Image);
        _tree = Require(new MemoryDisk(_plan).ReadVolume());
        _root = SysOpen.TryOpen(Folder, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out _)!;
        _planned = StateOf(_tree);
        Disk = Open();
    }

    /// <summary>The same folder and disk once more, elsewhere: what a program did is given, not done again.</summary>
    public WrittenFolder(
        WrittenFolder other, Action<string>? hook, bool saved, HostLack lack = HostLack.None,
        Action<string>? journalHook = null)
    {
        (_lack, _journalHook) = (lack, journalHook);

        Mtools.Run("cp", "-a", other.Folder, Folder);
        (_plan, _tree) = (other._plan, other._tree);
        _root = SysOpen.TryOpen(Folder, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out _)!;
        _planned = StateOf(_tree);
        Disk = Open(hook);
        if (saved)
        {
            Disk.Journal.Save(Encode(_planned), "", isApplied: false);
            Disk.Abandon();
            Disk = Open(hook, JournalFile);
        }
    }

    /// <summary>The folder.</summary>
    public string Folder => _dir.File("folder");

    /// <summary>A copy of the disk, for programs.</summary>
    public string Image => _dir.File("disk.raw");

    /// <summary>Where the journal goes.</summary>
    public string JournalFile => Path.Join(_dir.File("journals"), "the.journal");

    /// <summary>The disk.</summary>
    public FolderDisk Disk { get; private set; }

    /// <summary>What the user was told.</summary>
    public List<string> Warnings { get; } = [];

    /// <summary>Changes a copy of the disk by a program, and writes what it changed.</summary>
    public void Edit(Action<string> program)
    {
        byte[] before = ReadDisk();
        File.WriteAllBytes(Image, before);
        program(Image);
        Write(before, File.ReadAllBytes(Image));
    }

    /// <summary>Writes the sectors that differ.</summary>
    public void Write(byte[] before, byte[] after)
    {
        Assert.Equal(before.Length, after.Length);
        for (int at = 0; at < after.Length; at += 512)
        {
            if (!before.AsSpan(at, 512).SequenceEqual(after.AsSpan(at, 512)))
            {
                Run(Disk.WriteAsync(at, after.AsMemory(at, 512), CancellationToken.None));
            }
        }

        Assert.True(ReadDisk().AsSpan().SequenceEqual(after), "the disk does not show what was written");
    }

    /// <summary>The whole disk.</summary>
    public byte[] ReadDisk()
    {
        byte[] bytes = new byte[Disk.Length];
        for (int at = 0; at < bytes.Length; at += 1 << 20)
        {
            Run(Disk.ReadAsync(at, bytes.AsMemory(at, Math.Min(1 << 20, bytes.Length - at)), CancellationToken.None));
        }

        return bytes;
    }

    /// <summary>Flushes.</summary>
    public ApplyReport Flush() => Disk.FlushAsync(CancellationToken.None).AsTask().GetAwaiter().GetResult();

    /// <summary>Flushes, and requires that the folder follows and that the disk stays as it is.</summary>
    public ApplyReport Apply()
    {
        byte[] before = ReadDisk();
        ApplyReport report = Flush();
        Assert.True(report.IsDone, report.Reason);
        byte[] after = ReadDisk();
        VolumeTree tree = Require(new MemoryDisk(before).ReadVolume());
        long data = tree.Geometry.DataOffset;
        Assert.True(after.AsSpan(0, (int)data).SequenceEqual(before.AsSpan(0, (int)data)), "applying changed the disk");
        foreach (VolumeNode node in tree.Nodes)
        {
            // What lies behind the end of a file is nobody's, and may become zero.
            long left = node.IsDirectory ? long.MaxValue : node.Size;
            foreach (ClusterRun run in node.Runs)
            {
                int at = (int)tree.Geometry.OffsetOf(run.First);
                int count = (int)Math.Min((long)run.Count * tree.Geometry.ClusterSize, left);
                left -= count;
                Assert.True(
                    after.AsSpan(at, count).SequenceEqual(before.AsSpan(at, count)), $"applying changed '{node.Name}'");
            }
        }

        Assert.Empty(Directory.GetFileSystemEntries(Folder, ".imgmount-*"));
        return report;
    }

    /// <summary>What a process that died would find: what was left behind is finished, and the disk opened
    /// anew.</summary>
    public void Recover(bool withJournal)
    {
        Disk.Abandon();
        using var tree = new HostTree(_root, Folder);
        var recovery = FolderRecovery.Run(new HostChanges(tree, null, _lack), Warnings.Add);
        if (withJournal)
        {
            Disk = Open(null, JournalFile, recovery);
        }
        else
        {
            recovery.Conclude(null);
        }

        Assert.Empty(Directory.GetFileSystemEntries(Folder, ".imgmount-*"));
    }

    /// <summary>Finishes what was left behind, dying at some call. True when it was finished before that.</summary>
    public bool TryRecover(Action<string> hook)
    {
        using var tree = new HostTree(_root, Folder);
        try
        {
            FolderRecovery.Run(new HostChanges(tree, hook, _lack), Warnings.Add).Conclude(null);
            return true;
        }
        catch (Applying.ApplyCrashTests.DiedException)
        {
            return false;
        }
    }

    /// <summary>Text of the folder: a line for each file or folder, with what is in it.</summary>
    public string Describe() => Describe(Folder);

    /// <inheritdoc cref="Describe()"/>
    public static string Describe(string folder)
    {
        var lines = new List<string>();
        foreach (string path in Directory.GetFileSystemEntries(folder, "*", SearchOption.AllDirectories))
        {
            string name = Path.GetRelativePath(folder, path);
            lines.Add(Directory.Exists(path) ? name + "/" : $"{name}: {Hash(File.ReadAllBytes(path))}");
        }

        lines.Sort(StringComparer.Ordinal);
        return string.Join('\n', lines);
    }

    /// <summary>A short sum of a file's contents.</summary>
    public static string Hash(byte[] bytes) =>
        $"{bytes.Length} {Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(bytes).AsSpan(0, 6))}";

    /// <inheritdoc/>
    public void Dispose()
    {
        Disk.Abandon();
        _root.Dispose();
        _dir.Dispose();
    }

    private static VolumeTree Require(VolumeReading reading)
    {
        Assert.True(reading.IsConsistent, reading.Findings.ToString());
        return reading.Tree!;
    }

    private static void Run(ValueTask task) => task.AsTask().GetAwaiter().GetResult();

    private FolderDisk Open(
        Action<string>? hook = null, string? journalPath = null, FolderRecovery? recovery = null)
    {
        var file = journalPath is null
            ? new JournalFile(JournalFile, Folder, _plan.Length)
            : ImageMount.VirtualFat.Journal.JournalFile.Open(journalPath);
        file.Hook = journalPath is null || recovery is null ? _journalHook : null;
        JournalBlocks journal = journalPath is null
            ? new JournalBlocks(64 << 10, file)
            : JournalBlocks.Load(64 << 10, file);
        FolderState kept = journalPath is null ? _planned : Decode(file.ReadState(out _));
        FolderState state = recovery?.Correct(kept) ?? kept;
        var disk = new FolderDisk(new MemoryDisk(_plan), _tree.Geometry, _planned, state, journal, new FolderDiskParts
        {
            Root = _root,
            Name = Folder,
            Zone = TimeZoneInfo.Utc,
            Warn = Warnings.Add,
            EncodeState = Encode,
            Hook = hook,
            Lack = _lack,
        });
        if (!ReferenceEquals(state, kept))
        {
            disk.KeepState();
        }

        recovery?.Conclude(state.ApplyId);
        return disk;
    }

    private static byte[] Encode(FolderState state)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        FolderStateCodec.Write(writer, state);
        writer.Flush();
        return stream.ToArray();
    }

    private FolderState Decode(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
        return FolderStateCodec.Read(
            reader, _tree.Geometry, what => new BlockException(BlockErrorKind.InvalidData, what));
    }

    private FolderState StateOf(VolumeTree tree)
    {
        var nodes = new List<FolderNode>();
        for (int i = 0; i < tree.Nodes.Count; i++)
        {
            VolumeNode node = tree.Nodes[i];
            Assert.Equal(0, Stat.TryGet(Path.Join(Folder, tree.PathOf(i)), out StatInfo info));
            nodes.Add(new FolderNode
            {
                Parent = i == 0 ? null : nodes[node.Parent],
                Name = node.Name,
                HostName = HostPath.FromText(node.Name),
                IsFolder = node.IsDirectory,
                FirstCluster = node.FirstCluster,
                Size = node.Size,
                Runs = node.IsDirectory ? [] : node.Runs,
                Attributes = node.Attributes,
                Times = node.Times,
                Host = HostIdentity.Of(info),
            });
        }

        return new FolderState(nodes, "");
    }
}
