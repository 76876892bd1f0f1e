using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// The folder on the host, held open, and the only way to what is in it: part by part, each opened in the one before it
/// without following links. So nothing outside can be reached, whatever is put in the place of a folder or file
/// meanwhile; a link there is an error (ELOOP, ENOTDIR).
/// </summary>
/// <remarks>
/// A bounded number of folders stays open, because files are read in the order of the disk, that is by folder. Any number
/// of threads may use it. Descriptors of folders that it hands out are its own: not to be disposed.
/// </remarks>
internal sealed class HostFolder : IDisposable
{
    private const int MaxOpenFolders = 64;

    /// <summary>
    /// How long what was opened by its name is believed to be what the name says. Then it is opened again, so that what is
    /// replaced, removed or moved out of the folder is noticed.
    /// </summary>
    public static readonly TimeSpan Trust = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<int, (SafeFileHandle Handle, long Used, long Opened)> _open = [];
    private long _clock;

    private HostFolder(string path, SafeFileHandle root, StatInfo stat)
    {
        Path = path;
        Root = root;
        Stat = stat;
    }

    /// <summary>Source of time, for <see cref="Trust"/>.</summary>
    public TimeProvider Clock { get; set; } = TimeProvider.System;

    /// <summary>As the user wrote it.</summary>
    public string Path { get; }

    /// <summary>Absolute, without links, as of now.</summary>
    public string RealPath =>
        new FileInfo($"/proc/self/fd/{Root.DangerousGetHandle()}").LinkTarget ?? System.IO.Path.GetFullPath(Path);

    /// <summary>The folder.</summary>
    public SafeFileHandle Root { get; }

    /// <summary>What it was when it was opened.</summary>
    public StatInfo Stat { get; }

    /// <summary>Opens the folder that the user named; a link there is followed.</summary>
    public static HostFolder Open(string path)
    {
        if (path.Length == 0 || path.Contains('\0', StringComparison.Ordinal))
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "the name of the folder is empty or holds a NUL character")
            {
                Hint = "Write fat:DIR, or dir=DIR.",
            };
        }

        SafeFileHandle? root = SysOpen.TryOpen(path, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out int errno);
        if (root is null)
        {
            string? hint = errno == Errno.ENOTDIR ? "It is a file; name a folder." : null;
            throw HostErrors.Make(errno, "cannot open the folder", path, hint: hint);
        }

        errno = -Interop.Stat.TryGet(root, out StatInfo stat);
        if (errno != 0)
        {
            root.Dispose();
            throw HostErrors.Make(errno, "cannot open the folder", path);
        }

        return new HostFolder(path, root, stat);
    }

    /// <summary>
    /// The same folder, opened anew through the descriptor and not by its path, where something else may be by now.
    /// </summary>
    public HostFolder Reopen()
    {
        SafeFileHandle root = SysOpenAt.TryOpen(Root, "."u8, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out int errno)
            ?? throw HostErrors.Make(errno, "cannot open the folder", Path);
        errno = -Interop.Stat.TryGet(root, out StatInfo stat);
        if (errno != 0)
        {
            root.Dispose();
            throw HostErrors.Make(errno, "cannot open the folder", Path);
        }

        return new HostFolder(Path, root, stat) { Clock = Clock };
    }

    /// <summary>
    /// The open folder of an entry, or null and a positive errno. Valid until the next call from any thread closes it to
    /// make room, hence only for the system call that it is opened for; a SafeHandle outlives that call.
    /// </summary>
    public SafeFileHandle? TryGetFolder(EntryTable table, int entry, out int errno)
    {
        lock (_lock)
        {
            return TryGetLocked(table, entry, out errno);
        }
    }

    /// <summary>Opens an entry in its folder: a descriptor of the caller's, or null and a positive errno.</summary>
    /// <param name="table">Where the entry is.</param>
    /// <param name="entry">A file or a folder, not the root.</param>
    /// <param name="flags">O_… flags; O_NOFOLLOW and O_NONBLOCK are added, so that nothing leads away and no pipe keeps us
    /// waiting.</param>
    /// <param name="errno">0, or a positive errno.</param>
    public SafeFileHandle? TryOpen(EntryTable table, int entry, int flags, out int errno)
    {
        lock (_lock)
        {
            SafeFileHandle? folder = TryGetLocked(table, table[entry].Parent, out errno);
            return folder is null ? null : OpenAt(folder, table.HostNameOf(entry), flags, out errno);
        }
    }

    /// <summary>Forgets the open folders: what they are called may mean others by now.</summary>
    public void Forget()
    {
        lock (_lock)
        {
            foreach ((SafeFileHandle handle, _, _) in _open.Values)
            {
                handle.Dispose();
            }

            _open.Clear();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Forget();
        Root.Dispose();
    }

    private static SafeFileHandle? OpenAt(SafeFileHandle folder, ReadOnlySpan<byte> name, int flags, out int errno) =>
        SysOpenAt.TryOpen(folder, name, flags | SysOpen.O_NOFOLLOW | SysOpen.O_NONBLOCK, out errno);

    private SafeFileHandle? TryGetLocked(EntryTable table, int entry, out int errno)
    {
        errno = 0;
        if (entry == 0)
        {
            return Root;
        }

        // Up to the nearest folder that is open, then down again.
        var way = new Stack<int>();
        int at = entry;
        while (at != 0 && !IsOpen(at))
        {
            way.Push(at);
            at = table[at].Parent;
        }

        SafeFileHandle folder = at == 0 ? Root : Touch(at);
        while (way.TryPop(out int next))
        {
            SafeFileHandle? opened = OpenAt(
                folder, table.HostNameOf(next), SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out errno);
            if (opened is null)
            {
                return null;
            }

            MakeRoom();
            _open[next] = (opened, ++_clock, Clock.GetTimestamp());
            folder = opened;
        }

        return folder;
    }

    private SafeFileHandle Touch(int entry)
    {
        (SafeFileHandle handle, _, long opened) = _open[entry];
        _open[entry] = (handle, ++_clock, opened);
        return handle;
    }

    private bool IsOpen(int entry)
    {
        if (!_open.TryGetValue(entry, out (SafeFileHandle Handle, long Used, long Opened) folder))
        {
            return false;
        }

        if (Clock.GetElapsedTime(folder.Opened) < Trust)
        {
            return true;
        }

        _open.Remove(entry);
        folder.Handle.Dispose();
        return false;
    }

    private void MakeRoom()
    {
        if (_open.Count < MaxOpenFolders)
        {
            return;
        }

        (int oldest, long used) = (0, long.MaxValue);
        foreach ((int entry, (_, long clock, _)) in _open)
        {
            (oldest, used) = clock < used ? (entry, clock) : (oldest, used);
        }

        _open.Remove(oldest, out (SafeFileHandle Handle, long Used, long Opened) closed);
        closed.Handle.Dispose();
    }
}
