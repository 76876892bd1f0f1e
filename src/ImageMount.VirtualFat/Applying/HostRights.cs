using ImageMount.Core.Block;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// Looks, before anything is changed, whether names may be made, changed and removed wherever the steps do that. It asks
/// the kernel by the effective ids, so that access lists and read-only mounts count, and looks for what that does not
/// tell: marks that nothing may be changed (chattr), the sticky bit, mounts in the way.
/// </summary>
/// <param name="host">The folder.</param>
internal sealed class HostRights(HostTree host)
{
    private const uint StickyBit = 0x200;
    private readonly HashSet<FolderNode> _folders = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<FolderNode, bool> _moves = new(ReferenceEqualityComparer.Instance);

    /// <summary>Entries of a folder are made or removed; null for one that is ours.</summary>
    public void NeedEntries(FolderNode? folder)
    {
        if (folder is not null)
        {
            _folders.Add(folder);
        }
    }

    /// <summary>Something gets another name, or goes.</summary>
    public void NeedMove(FolderNode what, bool changesFolder) =>
        _moves[what] = changesFolder || _moves.GetValueOrDefault(what);

    /// <summary>Looks.</summary>
    /// <exception cref="BlockException">Something may not be done; says what and why.</exception>
    public void Check()
    {
        _ = host.TryStat(HostPath.Root, out StatInfo top);
        foreach (FolderNode folder in _folders)
        {
            CheckFolder(folder.Path, top);
        }

        foreach ((FolderNode what, bool changesFolder) in _moves)
        {
            CheckMove(what, changesFolder);
        }
    }

    private void CheckFolder(HostPath path, in StatInfo top)
    {
        SafeFileHandle? folder = host.TryOpenFolder(path, out int errno);
        if (folder is null)
        {
            // What is not there any more is a matter of the steps.
            RefuseUnless(errno is Errno.ENOENT or Errno.ENOTDIR or Errno.ELOOP, path, errno);
            return;
        }

        if (Stat.TryGet(folder, out StatInfo info) != 0)
        {
            return;
        }

        bool isElsewhere = (info.DeviceMajor, info.DeviceMinor, info.MountId)
            != (top.DeviceMajor, top.DeviceMinor, top.MountId);
        if (isElsewhere)
        {
            throw new BlockException(
                BlockErrorKind.NotSupported,
                $"'{host.NameOf(path)}' is on another file system, or mount, than '{host.Name}'; it cannot be changed "
                + "from there, and nothing was changed")
            {
                Hint = "Give that folder a disk of its own.",
            };
        }

        RefuseUnless(!info.IsImmutable && !info.IsAppendOnly, path, Errno.EPERM);
        errno = -SysFaccessat.Check(folder, SysFaccessat.W_OK | SysFaccessat.X_OK);
        RefuseUnless(errno == 0, path, errno);
    }

    private void CheckMove(FolderNode what, bool changesFolder)
    {
        HostPath path = what.Path;
        if (host.TryStat(path, out StatInfo info) != 0
            || host.TryStat(path.Parent, out StatInfo parent) != 0)
        {
            return;
        }

        uint me = SysUser.EffectiveId;
        bool isStuck = (parent.Mode & StickyBit) != 0 && me != 0 && me != info.Uid && me != parent.Uid;
        RefuseUnless(!info.IsImmutable && !info.IsAppendOnly && !isStuck, path, Errno.EPERM);
        RefuseUnless(info.MountId == parent.MountId, path, Errno.EBUSY);

        // A folder that goes to another has its entry ".." changed.
        if (info.IsDirectory && changesFolder && host.TryOpenFolder(path, out int errno) is { } folder)
        {
            errno = -SysFaccessat.Check(folder, SysFaccessat.W_OK);
            RefuseUnless(errno == 0, path, errno);
        }
    }

    private void RefuseUnless(bool isAllowed, HostPath path, int errno)
    {
        if (isAllowed)
        {
            return;
        }

        throw new BlockException(
            BlockErrorKind.PermissionDenied,
            $"'{host.NameOf(path)}' may not be changed ({Errno.Format(errno)}), as the disk was; nothing was changed")
        {
            Errno = errno,
            Hint = "Give the rights and commit again, or undo that change on the disk.",
        };
    }
}
