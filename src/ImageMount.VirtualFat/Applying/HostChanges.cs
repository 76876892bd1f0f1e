using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// Everything that changes the host's folder, one method a system call. Before and after each the hook is called: a
/// test that throws there sees what a crash at that moment leaves behind.
/// </summary>
/// <param name="tree">The folder.</param>
/// <param name="hook">Told what is about to be done, and again when it is; null outside tests.</param>
internal sealed class HostChanges(HostTree tree, Action<string>? hook = null)
{
    /// <summary>The folder.</summary>
    public HostTree Tree { get; } = tree;

    /// <summary>Makes a folder.</summary>
    public void MakeFolder(HostPath path, uint mode) => Do(
        "mkdirat", path, () => SysMkdirat.Make(Tree.OpenFolder(path.Parent), path.Name.ToCString(), mode),
        "cannot make the folder");

    /// <summary>Makes a file that is not there yet.</summary>
    public SafeFileHandle MakeFile(HostPath path, uint mode)
    {
        hook?.Invoke($"openat {path}");
        SafeFileHandle file = Tree.TryOpen(
            path, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, mode)
            ?? throw HostErrors.Make(errno, "cannot make the file", Tree.NameOf(path));
        hook?.Invoke($"openat {path}, done");
        return file;
    }

    /// <summary>Writes into an open file.</summary>
    public void Write(SafeFileHandle file, HostPath path, long offset, ReadOnlySpan<byte> bytes)
    {
        hook?.Invoke($"pwrite {path}");
        using var held = new Journal.HeldDescriptor(file);
        SysPwrite.Write(held.Number, bytes, offset, 1, out int errno);
        if (errno != 0)
        {
            throw HostErrors.Make(errno, "cannot write the file", Tree.NameOf(path), offset);
        }
    }

    /// <summary>Gives an open file a length.</summary>
    public void Truncate(SafeFileHandle file, HostPath path, long length) => Do(
        "ftruncate", path,
        () =>
        {
            using var held = new Journal.HeldDescriptor(file);
            return SysFtruncate.Truncate(held.Number, length);
        },
        "cannot write the file");

    /// <summary>Makes an open file, or the names in an open folder, durable.</summary>
    public void Sync(SafeFileHandle file, HostPath path) =>
        Do("fsync", path, () => SysFsync.Sync(file), "cannot make durable");

    /// <summary>Makes the names in a folder durable.</summary>
    public void SyncFolder(HostPath path) =>
        Do("fsync", path, () => SysFsync.Sync(Tree.OpenFolder(path)), "cannot make the folder durable");

    /// <summary>Sets the permissions of an open file.</summary>
    public void SetMode(SafeFileHandle file, HostPath path, uint mode) =>
        Do("fchmod", path, () => SysFchmod.Change(file, mode), "cannot change the permissions");

    /// <summary>Gives an open file an owner.</summary>
    public void SetOwner(SafeFileHandle file, HostPath path, uint uid, uint gid) =>
        Do("fchown", path, () => SysFchown.Change(file, uid, gid), "cannot change the owner");

    /// <summary>Sets the time of an open file.</summary>
    public void SetModified(SafeFileHandle file, HostPath path, long modifiedNs) =>
        Do("futimens", path, () => SysFutimens.SetModified(file, modifiedNs), "cannot set the time");

    /// <summary>Sets an extended attribute of an open file; false when the file system, or our rights, do not allow
    /// it.
    /// </summary>
    public bool TrySetAttribute(SafeFileHandle file, HostPath path, string name, ReadOnlySpan<byte> value)
    {
        hook?.Invoke($"fsetxattr {path} {name}");
        return SysSetXattr.Set(file, name, value) == 0;
    }

    /// <summary>Renames to a name that must be free: 0, or -EEXIST, -ENOENT, -ENOTDIR; other failures are
    /// thrown.</summary>
    public int TryMove(HostPath from, HostPath to)
    {
        hook?.Invoke($"renameat2 {from} {to}");
        int result = Rename(from, to, SysRenameat2.RENAME_NOREPLACE);
        if (result is -Errno.EINVAL && !Tree.Exists(to))
        {
            // A file system that does not know the flag. What appears in this moment would be replaced.
            result = Rename(from, to, 0);
        }

        if (result is not (0 or -Errno.EEXIST or -Errno.ENOENT or -Errno.ENOTDIR))
        {
            throw HostErrors.Make(-result, $"cannot be renamed to '{to}'", Tree.NameOf(from));
        }

        hook?.Invoke($"renameat2 {from} {to}, done");
        return result;
    }

    /// <summary>Lets two names change places: 0, -ENOENT or -ENOTDIR; other failures are thrown.</summary>
    public int TryExchange(HostPath a, HostPath b)
    {
        hook?.Invoke($"renameat2 {a} <> {b}");
        int result = Rename(a, b, SysRenameat2.RENAME_EXCHANGE);
        if (result is not (0 or -Errno.ENOENT or -Errno.ENOTDIR))
        {
            throw HostErrors.Make(-result, $"cannot change places with '{b}'", Tree.NameOf(a));
        }

        hook?.Invoke($"renameat2 {a} <> {b}, done");
        return result;
    }

    /// <summary>True when the file system lets two names change places, tried out on two files of ours.</summary>
    public bool CanExchange(HostPath a, HostPath b)
    {
        hook?.Invoke($"renameat2 {a} <> {b}");
        return Rename(a, b, SysRenameat2.RENAME_EXCHANGE) == 0;
    }

    /// <summary>Removes a file; one that is not there is no failure.</summary>
    public void RemoveFile(HostPath path)
    {
        hook?.Invoke($"unlinkat {path}");
        int result = SysUnlinkat.Remove(Tree.OpenFolder(path.Parent), path.Name.ToCString(), isFolder: false);
        if (result is not (0 or -Errno.ENOENT))
        {
            throw HostErrors.Make(-result, "cannot remove the file", Tree.NameOf(path));
        }

        hook?.Invoke($"unlinkat {path}, done");
    }

    /// <summary>Removes an empty folder: 0, -ENOTEMPTY, -ENOENT or -ENOTDIR; other failures are thrown.</summary>
    public int TryRemoveFolder(HostPath path)
    {
        hook?.Invoke($"rmdir {path}");
        Tree.Forget();
        int result = Tree.TryOpenFolder(path.Parent, out int errno) is { } parent
            ? SysUnlinkat.Remove(parent, path.Name.ToCString(), isFolder: true)
            : -errno;
        result = result == -Errno.EEXIST ? -Errno.ENOTEMPTY : result; // POSIX allows either
        if (result is not (0 or -Errno.ENOTEMPTY or -Errno.ENOENT or -Errno.ENOTDIR))
        {
            throw HostErrors.Make(-result, "cannot remove the folder", Tree.NameOf(path));
        }

        hook?.Invoke($"rmdir {path}, done");
        return result;
    }

    private int Rename(HostPath from, HostPath to, uint flags)
    {
        Tree.Forget();
        SafeFileHandle? source = Tree.TryOpenFolder(from.Parent, out int errno);
        if (source is null)
        {
            return -errno;
        }

        // The tree keeps one folder open; the other one needs a descriptor of its own.
        if (from.Parent == to.Parent)
        {
            return SysRenameat2.Rename(source, from.Name.ToCString(), source, to.Name.ToCString(), flags);
        }

        using SafeFileHandle? own = SysOpenAt.TryOpen(source, "."u8, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out errno);
        SafeFileHandle? target = own is null ? null : Tree.TryOpenFolder(to.Parent, out errno);
        int result = own is null || target is null
            ? -errno
            : SysRenameat2.Rename(own, from.Name.ToCString(), target, to.Name.ToCString(), flags);
        Tree.Forget();
        return result;
    }

    private void Do(string call, HostPath path, Func<int> action, string what)
    {
        hook?.Invoke($"{call} {path}");
        int result = action();
        if (result != 0)
        {
            throw HostErrors.Make(-result, what, Tree.NameOf(path));
        }

        hook?.Invoke($"{call} {path}, done");
    }
}
