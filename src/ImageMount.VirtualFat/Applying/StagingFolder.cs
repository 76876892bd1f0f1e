using System.Globalization;
using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using ImageMount.VirtualFat.Volume;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// A folder of ours in the host's folder, where new files are made, and old ones wait to be removed: renaming works
/// only within one file system. Its name begins with a prefix that neither plan nor guest can use. While it has no
/// log, nothing outside it was changed, and it can be thrown away; with a log, the changes must be finished.
/// </summary>
internal sealed class StagingFolder
{
    private const uint OwnerOnly = 0x1c0; // 0700
    private const uint OwnerReadWrite = 0x180; // 0600
    private const string NewPrefix = "new-";
    private const string TryPrefix = "try-";
    private static readonly HostPath LogName = HostPath.FromText("log");
    private static readonly HostPath NewLogName = HostPath.FromText("log.new");
    private readonly HostChanges _changes;
    private int _count;

    private StagingFolder(HostChanges changes, string id)
    {
        _changes = changes;
        Id = id;
        Path = HostPath.FromText(DirectoryParser.ReservedPrefix + id);
    }

    /// <summary>What tells it from others.</summary>
    public string Id { get; }

    /// <summary>Its path.</summary>
    public HostPath Path { get; }

    /// <summary>True when the file system lets two names change places.</summary>
    public bool CanExchange { get; private set; }

    /// <summary>Makes one.</summary>
    public static StagingFolder Create(HostChanges changes)
    {
        var folder = new StagingFolder(changes, Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8)));
        changes.MakeFolder(folder.Path, OwnerOnly);
        HostPath a = folder.Path.Join(HostPath.FromText(TryPrefix + "a"));
        HostPath b = folder.Path.Join(HostPath.FromText(TryPrefix + "b"));
        changes.MakeFile(a, OwnerReadWrite).Dispose();
        changes.MakeFile(b, OwnerReadWrite).Dispose();
        folder.CanExchange = changes.CanExchange(a, b);
        changes.RemoveFile(a);
        changes.RemoveFile(b);
        return folder;
    }

    /// <summary>The one that is there.</summary>
    public static StagingFolder Existing(HostChanges changes, string id) => new(changes, id);

    /// <summary>Those that earlier processes left behind, by id.</summary>
    public static IReadOnlyList<string> Find(HostTree tree) =>
    [
        .. from name in tree.List(HostPath.Root)
           where name.Raw.StartsWith(DirectoryParser.ReservedPrefix, StringComparison.Ordinal) && IsOurs(tree, name)
           select name.Raw[DirectoryParser.ReservedPrefix.Length..],
    ];

    /// <summary>A name for something new.</summary>
    public HostPath NewPath() => Numbered(NewPrefix);

    /// <summary>A name for something that is to be removed, or waits.</summary>
    public HostPath OldPath() => Numbered("old-");

    /// <summary>Writes the log. When this returns, everything in the folder and the log are durable.</summary>
    public void WriteLog(ChangeLog log)
    {
        HostPath path = Path.Join(NewLogName);
        using (SafeFileHandle file = _changes.MakeFile(path, OwnerReadWrite))
        {
            _changes.Write(file, path, 0, log.Write());
            _changes.Sync(file, path);
        }

        // In one step, also where renaming that replaces nothing takes two: nobody else works in this folder.
        _changes.Replace(path, Path.Join(LogName));
        _changes.SyncFolder(Path);
        _changes.SyncFolder(HostPath.Root);
    }

    /// <summary>The log; null when there is none.</summary>
    public ChangeLog? ReadLog()
    {
        HostPath path = Path.Join(LogName);
        using SafeFileHandle? file = _changes.Tree.TryOpen(path, SysOpen.O_RDONLY, out int errno);
        if (file is null)
        {
            return errno == Errno.ENOENT
                ? null
                : throw HostErrors.Make(errno, "cannot open", _changes.Tree.NameOf(path));
        }

        string name = _changes.Tree.NameOf(path);
        if (Stat.TryGet(file, out StatInfo info) != 0 || !info.IsRegular || info.Size > ChangeLog.MaxSize)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"{name}: this is no list of changes");
        }

        byte[] bytes = new byte[info.Size];
        using (var held = new Journal.HeldDescriptor(file))
        {
            if (SysPread.Read(held.Number, bytes, 0, 1, out errno) != bytes.Length || errno != 0)
            {
                throw HostErrors.Make(errno == 0 ? Errno.EIO : errno, "cannot read", name);
            }
        }

        ChangeLog log = ChangeLog.Parse(bytes, name);
        return log.Id == Id
            ? log
            : throw new BlockException(BlockErrorKind.InvalidData, $"{name}: this list of changes belongs elsewhere");
    }

    /// <summary>Removes it when all is done. Something in it that is not ours stays, and is reported.</summary>
    public void Remove(ICollection<string> notes)
    {
        // First the log: without it the folder means nothing.
        _changes.RemoveFile(Path.Join(LogName));
        RemoveIfEmpty(notes);
    }

    /// <summary>Throws one away whose log does not count after all.</summary>
    public void Abort(ICollection<string> notes)
    {
        _changes.RemoveFile(Path.Join(LogName));
        Discard(notes);
    }

    /// <summary>Removes one without a log: nothing that it prepared is needed.</summary>
    public void Discard(ICollection<string> notes)
    {
        foreach (HostPath name in _changes.Tree.List(Path))
        {
            bool isOurs = name == NewLogName || name.Raw.StartsWith(NewPrefix, StringComparison.Ordinal)
                || name.Raw.StartsWith(TryPrefix, StringComparison.Ordinal);
            HostPath path = Path.Join(name);
            HostIdentity what = _changes.Tree.Look(path);
            if (isOurs && what is { Exists: true, IsFolder: false })
            {
                _changes.RemoveFile(path);
            }
            else if (isOurs && what.IsFolder)
            {
                _changes.TryRemoveFolder(path);
            }
        }

        RemoveIfEmpty(notes);
    }

    private static bool IsOurs(HostTree tree, HostPath name) =>
        tree.TryStat(name, out StatInfo info) == 0 && info.IsDirectory && info.Uid == SysUser.EffectiveId
        && (info.Mode & 0x3f) == 0; // nobody else may write there

    private HostPath Numbered(string prefix) =>
        Path.Join(HostPath.FromText(string.Create(CultureInfo.InvariantCulture, $"{prefix}{++_count}")));

    private void RemoveIfEmpty(ICollection<string> notes)
    {
        if (_changes.TryRemoveFolder(Path) == -Errno.ENOTEMPTY)
        {
            notes.Add($"'{_changes.Tree.NameOf(Path)}' holds something that is not ours, and stays");
        }
    }
}
