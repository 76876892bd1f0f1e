using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

// The namespace is not called "File" like its folder: that would hide System.IO.File from every other protocol.
namespace ImageMount.Protocols.Files;

/// <summary>Opens regular files and block devices of this host. ("file:…" is understood by the source parser.)</summary>
public sealed class FileDriver : BlockDriver<FileOptions>
{
    /// <inheritdoc/>
    public override string Name => "file";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override string Summary => "A regular file or a block device of this host.";

    /// <inheritdoc/>
    public override ValueTask<bool> CreateFileAsync(object options, CancellationToken cancellationToken) =>
        new(FileMaker.TryCreate(((FileOptions)options).Filename));

    /// <inheritdoc/>
    public override ValueTask DeleteFileAsync(object options, CancellationToken cancellationToken)
    {
        FileMaker.Delete(((FileOptions)options).Filename);
        return default;
    }

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FileOptions options, CancellationToken cancellationToken) =>
        new(Open(options, context.Flags, context.Warn));

    /// <summary>Opens, checks and locks.</summary>
    internal static FileDevice Open(FileOptions options, OpenFlags flags, Action<string> warn)
    {
        string path = options.Filename;
        CheckArguments(path, flags);
        int errno = -Stat.TryGet(path, out StatInfo stat);
        if (errno != 0)
        {
            throw HostErrors.Make(errno, "cannot open", path);
        }

        CheckType(path, stat);
        LockingMode locking = options.Locking ?? flags.Locking;
        SafeFileHandle handle = OpenHandle(path, stat, flags.Writable, locking);
        DirectIo? direct = null;
        SafeFileHandle? durable = null;
        FileLocks? locks = null;
        try
        {
            int fd = (int)handle.DangerousGetHandle();
            errno = -Stat.TryGet(handle, out stat);
            if (errno != 0)
            {
                throw HostErrors.Make(errno, "cannot open", path);
            }

            CheckType(path, stat); // Again: another file may have taken the place since.
            SysFcntl.SetNonBlocking(handle, false);
            (long length, int deviceBlock) = Measure(path, fd, stat);
            locks = FileLocks.Take(fd, path, stat, flags, locking, warn);
            if (flags.Direct)
            {
                direct = DirectIo.TryOpen(handle, AccessOf(flags.Writable), stat, deviceBlock, out string refusal);
                if (direct is null)
                {
                    warn($"{path}: its file system does not do direct I/O ({refusal}); the host's page cache is used");
                }
            }

            if (flags.Writable)
            {
                // By the descriptor, not by the path: the path may name another file by now.
                durable = SysOpen.TryOpen($"/proc/self/fd/{fd}", SysOpen.O_RDWR, out _);
            }

            var opened = new OpenedFile
            {
                Name = path,
                Handle = handle,
                Durable = durable,
                Direct = direct,
                Locks = locks,
                Stat = stat,
                Length = length,
                DeviceBlock = deviceBlock,
                Writable = flags.Writable,
            };
            return new FileDevice(in opened, flags.Discard);
        }
        catch
        {
            locks?.Release();
            direct?.Handle.Dispose();
            durable?.Dispose();
            handle.Dispose();
            throw;
        }
    }

    private static int AccessOf(bool writable) => writable ? SysOpen.O_RDWR : SysOpen.O_RDONLY;

    private static void CheckArguments(string path, OpenFlags flags)
    {
        if (path.Length == 0 || path.Contains('\0', StringComparison.Ordinal))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the file name is empty or holds a NUL character");
        }

        if (flags is { ForceShare: true, Writable: true })
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "--force-share is for reading only")
            {
                Hint = "Add --read-only.",
            };
        }
    }

    private static void CheckType(string path, StatInfo stat)
    {
        if (stat.IsRegular || stat.IsBlockDevice)
        {
            return;
        }

        string type = stat switch
        {
            { IsDirectory: true } => "a directory",
            { IsCharacterDevice: true } => "a character device",
            { IsFifo: true } => "a pipe",
            { IsSocket: true } => "a socket",
            _ => "of an unknown type",
        };
        var e = new BlockException(BlockErrorKind.InvalidArgument, "cannot be opened as a disk")
        {
            Found = type,
            Expected = "a regular file or a block device",
            Hint = stat.IsDirectory ? "Name an image file in it." : null,
        };
        e.Stamp(path, null);
        throw e;
    }

    private static SafeFileHandle OpenHandle(string path, StatInfo stat, bool writable, LockingMode locking)
    {
        // O_NONBLOCK: a pipe that takes the file's place meanwhile does not keep us waiting for its other end. Not for
        // devices, where it means "even without a medium".
        // O_EXCL on a device: it is not mounted, nor part of something else, and stays so. That is the host's own lock.
        int flags = AccessOf(writable)
            | (stat.IsBlockDevice ? 0 : SysOpen.O_NONBLOCK)
            | (stat.IsBlockDevice && writable && locking != LockingMode.Off ? SysOpen.O_EXCL : 0);
        SafeFileHandle? handle = SysOpen.TryOpen(path, flags, out int errno);
        if (handle is not null)
        {
            return handle;
        }

        string what = writable ? "cannot open for writing" : "cannot open";
        throw HostErrors.Make(errno, what, path, hint: OpenHint(errno, path, stat, writable));
    }

    /// <summary>For what the table of errors cannot know: whether opening for reading would do.</summary>
    private static string? OpenHint(int errno, string path, StatInfo stat, bool writable)
    {
        if (errno is not (Errno.EACCES or Errno.EPERM or Errno.EROFS or Errno.ETXTBSY or Errno.EBUSY))
        {
            return null;
        }

        string why = errno switch
        {
            Errno.EACCES =>
                $"It belongs to uid {stat.Uid}, gid {stat.Gid}, with mode 0{Convert.ToString(stat.Mode & 0xFFF, 8)}. ",
            Errno.EROFS => "It lies on a read-only file system, or the device is write-protected. ",
            Errno.EPERM => "It is immutable or append-only (lsattr), or the device needs root. ",
            Errno.ETXTBSY => "It is a running program, or is used for swapping. ",
            _ => "It is mounted, or is part of a RAID, LVM or swap. ",
        };
        using SafeFileHandle? readable = writable
            ? SysOpen.TryOpen(path, SysOpen.O_RDONLY | SysOpen.O_NONBLOCK, out _)
            : null;
        return why + (readable is null
            ? writable ? "It cannot be read either." : "Run as a user who may read it."
            : "It can be read: add --read-only.");
    }

    private static (long Length, int DeviceBlock) Measure(string path, int fd, StatInfo stat)
    {
        if (stat.IsRegular)
        {
            return (stat.Size, 0);
        }

        int errno = -BlockDeviceControl.TryGetSize(fd, out long size);
        if (errno == 0)
        {
            errno = -BlockDeviceControl.TryGetLogicalBlockSize(fd, out int block);
            if (errno == 0)
            {
                return (size, block);
            }
        }

        throw HostErrors.Make(errno, "cannot find out the size of the device", path);
    }
}
