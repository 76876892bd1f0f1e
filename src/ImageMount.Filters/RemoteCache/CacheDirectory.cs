using ImageMount.Core.Block;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// The folder with the files of the cache, shared by all processes that name it. A file is made under another name and
/// gets its own when it is whole; who uses it holds a shared lock on it; only who gets the lock alone removes it. What
/// is no proper file of ours, whatever it is, is removed and made anew.
/// </summary>
internal sealed class CacheDirectory
{
    private const int MaxTries = 100;
    private const uint OwnerOnly = 0x180; // 0600
    private const uint OthersMayWrite = 0x12; // 0022
    private const uint OthersMayDoAnything = 0x3F; // 0077
    private const string NewSuffix = ".new";

    private static readonly int s_openFlags = SysOpen.O_RDWR | SysOpen.O_NOFOLLOW | SysOpen.O_NONBLOCK;

    private CacheDirectory(string path) => Path = path;

    /// <summary>Absolute path.</summary>
    public string Path { get; }

    /// <summary>Opens the folder; makes it when it is not there.</summary>
    /// <exception cref="BlockException">It cannot be used, or others could put bytes into it.</exception>
    public static CacheDirectory Open(string path)
    {
        path = System.IO.Path.GetFullPath(path);
        try
        {
            if (!OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(
                    path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unusable(path, $"it cannot be made: {e.Message}", e);
        }

        int errno = -Stat.TryGet(path, out StatInfo info);
        if (errno != 0 || !info.IsDirectory)
        {
            throw Unusable(path, errno != 0 ? Errno.Format(errno) : "it is no folder", null);
        }

        if (info.Uid != SysUser.EffectiveId || (info.Mode & OthersMayWrite) != 0)
        {
            throw Unusable(path, "it belongs to another user, or others may write into it", null);
        }

        return new CacheDirectory(path);
    }

    /// <summary>
    /// Opens the file of a state of a disk; makes it when it is not there. Null: it cannot be had, for a reason.
    /// </summary>
    public CacheFile? TryOpen(CacheHeader wanted, out string why)
    {
        why = "somebody else keeps removing it";
        try
        {
            for (int i = 0; i < MaxTries; i++)
            {
                CacheFile? file = TryUse(wanted.FileName, wanted, out bool isMissing);
                file ??= isMissing ? TryMake(wanted) : null;
                if (file is not null)
                {
                    return file;
                }

                Thread.Sleep(i < 5 ? 0 : 10); // Whoever has it alone is just removing it.
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            why = e.Message;
        }

        return null;
    }

    /// <summary>The state of a disk that was in use last; null when there is none.</summary>
    public CacheFile? TryOpenLatest(byte[] key)
    {
        foreach (string name in StatesOf(key))
        {
            if (TryUse(name, null, out _) is not { } file)
            {
                continue;
            }

            if (file.Header.FileName == name)
            {
                return file;
            }

            file.Dispose();
        }

        return null;
    }

    /// <summary>True when there is a state of a disk.</summary>
    public bool Knows(byte[] key) => StatesOf(key).Count > 0;

    /// <summary>Removes the states of a disk that nobody uses.</summary>
    /// <param name="key">Which disk.</param>
    /// <param name="except">The state to leave alone, or null.</param>
    /// <returns>False when one is in use.</returns>
    public bool Forget(byte[] key, CacheHeader? except)
    {
        bool isGone = true;
        foreach (string name in StatesOf(key))
        {
            isGone &= name == except?.FileName || TryRemoveUnused(name);
        }

        return isGone;
    }

    /// <summary>
    /// Removes files, the one that was used longest ago first, until no more than a number of bytes are left or all
    /// that are left are in use. Returns how many bytes are left.
    /// </summary>
    public long Shrink(long limit)
    {
        long total = 0;
        var files = new List<(string Name, long Bytes, long ModifiedNs)>();
        foreach (string name in Names())
        {
            if (name.EndsWith(NewSuffix, StringComparison.Ordinal))
            {
                TryRemoveUnused(name); // Left by a process that ended while it made it.
            }
            else if (Stat.TryGet(PathOf(name), out StatInfo info, noFollow: true) == 0 && info.IsRegular)
            {
                total += info.Blocks * 512;
                files.Add((name, info.Blocks * 512, info.ModifiedNs));
            }
        }

        foreach ((string name, long bytes, _) in files.OrderBy(file => file.ModifiedNs))
        {
            if (total <= limit)
            {
                break;
            }

            if (TryRemoveUnused(name))
            {
                total -= bytes;
            }
        }

        return total;
    }

    private static BlockException Unusable(string path, string why, Exception? inner) =>
        new(BlockErrorKind.InvalidArgument, $"'{path}' cannot be the remote cache: {why}", inner)
        {
            Hint = "Name a folder of your own that nobody else may write into.",
        };

    private string PathOf(string name) => System.IO.Path.Join(Path, name);

    private List<string> Names()
    {
        try
        {
            return
            [
                .. Directory.EnumerateFileSystemEntries(Path).Select(path => System.IO.Path.GetFileName(path)!)
                    .Where(name => name.EndsWith(CacheHeader.Suffix, StringComparison.Ordinal)
                        || name.EndsWith(CacheHeader.Suffix + NewSuffix, StringComparison.Ordinal)),
            ];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>Files of a disk, the one used last first.</summary>
    private List<string> StatesOf(byte[] key)
    {
        string prefix = CacheHeader.PrefixOf(key);
        return
        [
            .. Names().Where(name => name.StartsWith(prefix, StringComparison.Ordinal)
                    && name.EndsWith(CacheHeader.Suffix, StringComparison.Ordinal))
                .OrderByDescending(name => Stat.TryGet(PathOf(name), out StatInfo info, noFollow: true) == 0
                    ? info.ModifiedNs : long.MinValue),
        ];
    }

    /// <summary>Opens and locks a file that is there; one that is not as it should be is removed.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="wanted">What it must hold; null: anything.</param>
    /// <param name="isMissing">There is nothing under that name (any more).</param>
    private CacheFile? TryUse(string name, CacheHeader? wanted, out bool isMissing)
    {
        isMissing = false;
        SafeFileHandle? handle = SysOpen.TryOpen(PathOf(name), s_openFlags, out int errno);
        if (handle is null)
        {
            // A link, a folder, a special file, somebody else's: not ours. Anything else is no reason to remove it.
            isMissing = errno == Errno.ENOENT
                || (errno is Errno.ELOOP or Errno.EISDIR or Errno.ENXIO or Errno.EACCES && TryRemove(name));
            return null;
        }

        CacheFile? file = null;
        try
        {
            if (SysFlock.TryLockShared(handle) != 0 || !IsStillThere(handle, name, out StatInfo info))
            {
                return null;
            }

            CacheHeader? header = ReadHeader(handle, info);
            if (header is null || (wanted is not null && !header.IsSameAs(wanted)))
            {
                isMissing = TryRemove(name);
                return null;
            }

            if (wanted is not null)
            {
                // "Used just now": what is removed for want of room is what nobody has used for longest.
                _ = SysFutimens.SetModified(handle, (DateTime.UtcNow - DateTime.UnixEpoch).Ticks * 100);
            }

            return file = new CacheFile(handle, header);
        }
        finally
        {
            if (file is null)
            {
                SysFlock.Unlock(handle);
                handle.Dispose();
            }
        }
    }

    private CacheFile? TryMake(CacheHeader header)
    {
        string name = $"{header.FileName[..16]}-{Guid.NewGuid():N}{CacheHeader.Suffix}{NewSuffix}";
        string path = PathOf(name);
        SafeFileHandle? handle = SysOpen.TryOpen(
            path, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, OwnerOnly);
        CacheFile? file = null;
        try
        {
            var layout = new CacheLayout(header.Length);
            if (handle is not null && (errno = -SysFlock.TryLockShared(handle)) == 0)
            {
                int fd = (int)handle.DangerousGetHandle();
                errno = -SysFtruncate.Truncate(fd, layout.FileSize);
                if (errno == 0)
                {
                    SysPwrite.Write(fd, header.ToPage(), layout.HeaderOffset, 1, out errno);
                }
            }

            if (errno != 0)
            {
                throw new IOException(Errno.Format(errno));
            }

            try
            {
                File.Move(path, PathOf(header.FileName), overwrite: false);
            }
            catch (IOException) when (File.Exists(PathOf(header.FileName)) || !File.Exists(path))
            {
                return null; // Somebody else was faster, or has tidied up: look again.
            }

            return IsStillThere(handle!, header.FileName, out _) ? file = new CacheFile(handle!, header) : null;
        }
        finally
        {
            if (file is null && handle is not null)
            {
                TryRemove(name);
                SysFlock.Unlock(handle);
                handle.Dispose();
            }
        }
    }

    private static CacheHeader? ReadHeader(SafeFileHandle handle, in StatInfo info)
    {
        if (!info.IsRegular || info.Uid != SysUser.EffectiveId || (info.Mode & OthersMayDoAnything) != 0
            || info.Size < 2 * CacheLayout.HeaderSize)
        {
            return null;
        }

        var page = new byte[CacheLayout.HeaderSize];
        long count = SysPread.Read(
            (int)handle.DangerousGetHandle(), page, info.Size - CacheLayout.HeaderSize, 1, out int errno);
        CacheHeader? header = errno == 0 && count == page.Length ? CacheHeader.Parse(page) : null;
        return header is not null && new CacheLayout(header.Length).FileSize == info.Size ? header : null;
    }

    /// <summary>Whether the name still leads to the file that is open, now that it is locked.</summary>
    private bool IsStillThere(SafeFileHandle handle, string name, out StatInfo info) =>
        Stat.TryGet(handle, out info) == 0 && Stat.TryGet(PathOf(name), out StatInfo named, noFollow: true) == 0
        && (named.DeviceMajor, named.DeviceMinor, named.Inode) == (info.DeviceMajor, info.DeviceMinor, info.Inode);

    /// <summary>Removes a file unless somebody uses it. True when it is gone.</summary>
    private bool TryRemoveUnused(string name)
    {
        using SafeFileHandle? handle = SysOpen.TryOpen(
            PathOf(name), SysOpen.O_RDONLY | SysOpen.O_NOFOLLOW | SysOpen.O_NONBLOCK, out int errno);
        if (handle is null)
        {
            return errno == Errno.ENOENT || TryRemove(name);
        }

        if (SysFlock.TryLock(handle) != 0)
        {
            return false;
        }

        try
        {
            return !IsStillThere(handle, name, out _) || TryRemove(name);
        }
        finally
        {
            SysFlock.Unlock(handle);
        }
    }

    private bool TryRemove(string name)
    {
        try
        {
            File.Delete(PathOf(name)); // A link itself, not where it leads.
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // A folder, say. Then nothing is kept, and the user is told.
        }
    }
}
