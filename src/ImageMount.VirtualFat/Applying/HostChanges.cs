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
/// <param name="lack">What the file system is to be taken not to be able to do.</param>
internal sealed class HostChanges(HostTree tree, Action<string>? hook = null, HostLack lack = HostLack.None)
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
        if (result is -Errno.EINVAL)
        {
            result = MoveWithoutFlag(from, to);
        }

        if (result is not (0 or -Errno.EEXIST or -Errno.ENOENT or -Errno.ENOTDIR))
        {
            throw HostErrors.Make(-result, $"cannot be renamed to '{to}'", Tree.NameOf(from));
        }

        hook?.Invoke($"renameat2 {from} {to}, done");
        return result;
    }

    /// <summary>Renames; what has the new name is no more.</summary>
    public void Replace(HostPath from, HostPath to)
    {
        hook?.Invoke($"renameat2 {from} {to}");
        int result = Rename(from, to, 0);
        if (result != 0)
        {
            throw HostErrors.Make(-result, $"cannot be renamed to '{to}'", Tree.NameOf(from));
        }

        hook?.Invoke($"renameat2 {from} {to}, done");
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

    /// <summary>
    /// A file system that does not know RENAME_NOREPLACE. A file gets its new name as a second one, which must be free,
    /// and then loses the old one; where files have only one name, an empty file takes the new name first, and is
    /// replaced. A folder replaces nothing but an empty folder anyway.
    /// </summary>
    private int MoveWithoutFlag(HostPath from, HostPath to)
    {
        if (Tree.Look(from).IsFolder)
        {
            int renamed = Tree.Exists(to) ? -Errno.EEXIST : Rename(from, to, 0);
            return renamed is -Errno.ENOTEMPTY || (renamed is -Errno.ENOTDIR && Tree.Exists(to)) ? -Errno.EEXIST : renamed;
        }

        hook?.Invoke($"linkat {from} {to}");
        int result = WithBoth(from, to, (source, target) => (lack & HostLack.Links) != 0 ? -Errno.EPERM
            : SysLinkat.Link(source, from.Name.ToCString(), target, to.Name.ToCString()));
        hook?.Invoke($"linkat {from} {to}, done");
        if (result == 0 || (result == -Errno.EEXIST && Tree.Look(to).IsSameObject(Tree.Look(from))))
        {
            // Or an earlier run was cut off here.
            RemoveFile(from);
            return 0;
        }

        return result is -Errno.EEXIST ? (IsPlaceholder(to) ? Rename(from, to, 0) : result)
            : result is -Errno.ENOENT or -Errno.ENOTDIR ? result
            : MoveOverPlaceholder(from, to);
    }

    private int MoveOverPlaceholder(HostPath from, HostPath to)
    {
        hook?.Invoke($"openat {to}");
        using (SafeFileHandle? file = Tree.TryOpen(
            to, SysOpen.O_RDONLY | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, mode: 0))
        {
            if (file is null && !(errno == Errno.EEXIST && IsPlaceholder(to)))
            {
                return -errno;
            }
        }

        hook?.Invoke($"openat {to}, done");
        int result = IsPlaceholder(to) ? Rename(from, to, 0) : -Errno.EEXIST;
        if (result is -Errno.ENOENT or -Errno.ENOTDIR && IsPlaceholder(to))
        {
            RemoveFile(to);
        }

        return result;
    }

    /// <summary>An empty file of ours that nobody may open: made here, perhaps by a run that was cut off.</summary>
    private bool IsPlaceholder(HostPath path) => Tree.TryStat(path, out StatInfo info) == 0 && info.IsRegular
        && info.Size == 0 && (info.Mode & 0xfff) == 0 && info.Uid == SysUser.EffectiveId;

    private int Rename(HostPath from, HostPath to, uint flags)
    {
        bool isUnknown = ((flags & SysRenameat2.RENAME_EXCHANGE) != 0 && (lack & HostLack.Exchange) != 0)
            || ((flags & SysRenameat2.RENAME_NOREPLACE) != 0 && (lack & HostLack.NoReplace) != 0);
        return WithBoth(from, to, (source, target) => isUnknown ? -Errno.EINVAL
            : SysRenameat2.Rename(source, from.Name.ToCString(), target, to.Name.ToCString(), flags));
    }

    private int WithBoth(HostPath from, HostPath to, Func<SafeFileHandle, SafeFileHandle, int> call)
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
            return call(source, source);
        }

        using SafeFileHandle? own = SysOpenAt.TryOpen(source, "."u8, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out errno);
        SafeFileHandle? target = own is null ? null : Tree.TryOpenFolder(to.Parent, out errno);
        int result = own is null || target is null ? -errno : call(own, target);
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
