using System.Globalization;
using System.Text;
using ImageMount.Fuse.Abi;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Mount;

/// <summary>Makes a mount and gives the /dev/fuse descriptor that serves it: through mount(2) when root, through the
/// setuid helper fusermount3 otherwise. The kernel queues INIT on it at once.</summary>
internal static class FuseMounter
{
    private const string Device = "/dev/fuse";

    /// <summary>Mounts.</summary>
    /// <param name="point">Checked mount point.</param>
    /// <param name="options">Names and flags.</param>
    /// <param name="maxRead">Largest READ, bytes.</param>
    /// <param name="forceHelper">Use fusermount3 even as root (tests).</param>
    /// <exception cref="FuseMountException">Says what to do.</exception>
    public static SafeFileHandle Mount(
        MountPoint point, FuseSessionOptions options, int maxRead, bool forceHelper = false) =>
        SysUser.EffectiveId == 0 && !forceHelper
            ? MountAsRoot(point, options, maxRead)
            : MountByHelper(point, options, maxRead);

    private static SafeFileHandle MountAsRoot(MountPoint point, FuseSessionOptions options, int maxRead)
    {
        SafeFileHandle? device = SysOpen.TryOpen(Device, SysOpen.O_RDWR, out int errno);
        if (device is null)
        {
            throw NoDevice(point.Path, errno);
        }
        var data = new StringBuilder();
        data.Append(CultureInfo.InvariantCulture, $"fd={(int)device.DangerousGetHandle()}");
        data.Append(",rootmode=").Append(Convert.ToString(point.RootMode, 8));
        data.Append(CultureInfo.InvariantCulture, $",user_id={SysUser.Id},group_id={SysUser.GroupId}");
        AppendCommon(data, options, maxRead);
        nuint flags = SysMount.MS_NOSUID | SysMount.MS_NODEV | (options.ReadOnly ? SysMount.MS_RDONLY : 0);
        int result = SysMount.Mount(options.FsName, point.Path, "fuse." + options.Subtype, flags, data.ToString());
        if (result < 0)
        {
            device.Dispose();
            throw RootFailure(point.Path, -result);
        }
        return device;
    }

    private static SafeFileHandle MountByHelper(MountPoint point, FuseSessionOptions options, int maxRead)
    {
        if (options.AllowOther && SysUser.EffectiveId != 0 && !FuseConf.AllowsOther())
        {
            throw new FuseMountException(
                FuseMountFailure.AllowOtherForbidden, point.Path,
                $"allow_other is not enabled for ordinary users: add the line \"user_allow_other\" to {FuseConf.Path} "
                + "(as root), or mount as root, or mount without allow_other.");
        }
        if (!File.Exists(Device))
        {
            throw NoDevice(point.Path, Errno.ENOENT);
        }
        var text = new StringBuilder();
        text.Append(options.ReadOnly ? "ro" : "rw").Append(",nosuid,nodev");
        text.Append(",fsname=").Append(Escape(options.FsName));
        text.Append(",subtype=").Append(Escape(options.Subtype));
        AppendCommon(text, options, maxRead);
        (SafeFileHandle ours, SafeFileHandle theirs) = SysSocketPair.Create();
        using (ours)
        {
            return Receive(point, text.ToString(), ours, theirs);
        }
    }

    private static SafeFileHandle Receive(MountPoint point, string options, SafeFileHandle ours, SafeFileHandle theirs)
    {
        using System.Diagnostics.Process helper = StartHelper(point, options, theirs);
        // With our copy of its end closed, recvmsg answers "end" when the helper dies without sending anything.
        theirs.Dispose();
        SafeFileHandle? device = SysReceiveDescriptor.Receive(ours);
        string errors = helper.StandardError.ReadToEnd().Trim();
        helper.WaitForExit();
        if (device is not null && helper.ExitCode == 0)
        {
            return device;
        }
        device?.Dispose();
        throw HelperFailure(point.Path, errors, helper.ExitCode);
    }

    private static System.Diagnostics.Process StartHelper(MountPoint point, string options, SafeFileHandle theirs)
    {
        try
        {
            SysFcntl.ClearCloseOnExec(theirs);
            string descriptor = ((int)theirs.DangerousGetHandle()).ToString(CultureInfo.InvariantCulture);
            return Fusermount.Start(point.Path, ["-o", options, "--", point.Path], descriptor);
        }
        catch
        {
            theirs.Dispose();
            throw;
        }
    }

    private static void AppendCommon(StringBuilder data, FuseSessionOptions options, int maxRead)
    {
        data.Append(CultureInfo.InvariantCulture, $",max_read={maxRead}");
        if (options.AllowOther)
        {
            data.Append(",allow_other");
        }
        if (options.DefaultPermissions)
        {
            data.Append(",default_permissions");
        }
    }

    // fusermount3 takes a backslash before commas and backslashes in fsname and subtype.
    private static string Escape(string value) =>
        value.Replace(@"\", @"\\", StringComparison.Ordinal).Replace(",", @"\,", StringComparison.Ordinal);

    private static FuseMountException NoDevice(string path, int errno) => new(
        FuseMountFailure.NoFuseDevice, path,
        errno is Errno.ENOENT or Errno.ENODEV or Errno.ENXIO
            ? $"{Device} is missing ({Errno.Format(errno)}): load the kernel module (modprobe fuse); in a container, "
                + "pass the device in (--device /dev/fuse)."
            : $"{Device} cannot be opened: {Errno.Format(errno)}.");

    private static FuseMountException RootFailure(string path, int errno) => errno switch
    {
        Errno.EPERM => new(
            FuseMountFailure.MountPointForbidden, path,
            $"mount(2) on {path} is not permitted although we are root: in a container, CAP_SYS_ADMIN is needed "
            + "(--cap-add SYS_ADMIN)."),
        Errno.ENOTCONN => new(
            FuseMountFailure.MountPointDead, path, $"A dead FUSE mount lies at {path}: unmount it (umount -l {path})."),
        Errno.ENODEV => NoDevice(path, errno),
        _ => new(FuseMountFailure.Other, path, $"Cannot mount on {path}: {Errno.Format(errno)}."),
    };

    private static FuseMountException HelperFailure(string path, string errors, int exitCode)
    {
        FuseMountFailure kind =
            errors.Contains(Device, StringComparison.Ordinal)
                || errors.Contains("device not found", StringComparison.Ordinal) ? FuseMountFailure.NoFuseDevice
            : errors.Contains("user_allow_other", StringComparison.Ordinal) ? FuseMountFailure.AllowOtherForbidden
            : errors.Contains("write access", StringComparison.Ordinal)
                || errors.Contains("not owned", StringComparison.Ordinal)
                || errors.Contains("Permission denied", StringComparison.OrdinalIgnoreCase)
                || errors.Contains("not permitted", StringComparison.Ordinal) ? FuseMountFailure.MountPointForbidden
            : FuseMountFailure.Other;
        string words = errors.Length > 0 ? errors : $"it ended with {exitCode}";
        string advice = kind switch
        {
            FuseMountFailure.MountPointForbidden =>
                " An ordinary user needs a mount point that is writable and, if sticky, owned by that user.",
            FuseMountFailure.NoFuseDevice =>
                $" {Device} is normally open to everybody (as root: chmod 666 {Device}).",
            _ => "",
        };
        return new FuseMountException(kind, path, $"fusermount3 did not mount {path}: {words}.{advice}");
    }
}
