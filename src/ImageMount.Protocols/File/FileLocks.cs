using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;

namespace ImageMount.Protocols.Files;

/// <summary>
/// Image locking on the byte ranges that QEMU uses, so that the two see each other.
/// </summary>
/// <remarks>
/// Each use of an image is a number: 0 reading consistent data, 1 writing, 3 resizing (2, writing without change, and
/// 4 never matter between processes). A program that makes use N of an image holds a shared lock on byte 100 + N; one
/// that bears no use N by others holds a shared lock on byte 200 + N. Shared locks never stand against each other, so
/// taking them always works; afterwards it looks whether an exclusive lock on the opposite bytes would be possible:
/// 200 + N for what it does itself, 100 + N for what it does not bear. Because everybody takes first and looks then,
/// two that start together may both give up, but never both go on. (Facts from watching qemu-io, qemu-img and
/// qemu-storage-daemon 7.2 with strace; the table in docs/drivers/file.md.)
/// </remarks>
internal sealed class FileLocks
{
    /// <summary>First byte of the uses that are being made.</summary>
    internal const long UsedBase = 100;

    /// <summary>First byte of the uses that are not borne.</summary>
    internal const long UnsharedBase = 200;

    internal const int Read = 0;
    internal const int Write = 1;
    internal const int Resize = 3;

    private static readonly int[] ReaderUses = [Read];
    private static readonly int[] WriterUses = [Read, Write, Resize];
    private static readonly int[] Excluded = [Write, Resize];

    private readonly int _fd;
    private readonly bool _ofd;
    private readonly string _name;
    private readonly StatInfo _stat;
    private readonly bool _writable;

    private FileLocks(int fd, bool ofd, string name, StatInfo stat, bool writable)
    {
        _fd = fd;
        _ofd = ofd;
        _name = name;
        _stat = stat;
        _writable = writable;
    }

    /// <summary>Takes the locks; null when there are none to hold (off, or impossible and not required).</summary>
    /// <param name="fd">Descriptor whose open file description carries the locks.</param>
    /// <param name="name">What messages call the file.</param>
    /// <param name="stat">Of the file, to find who else holds it.</param>
    /// <param name="flags">How the image is used.</param>
    /// <param name="mode">Whether locks are wanted.</param>
    /// <param name="warn">Hears of a fallback.</param>
    /// <param name="ofdExists">False makes believe that the kernel lacks OFD locks; for tests.</param>
    /// <exception cref="BlockException">InUse; NotSupported when locks are required and impossible.</exception>
    public static FileLocks? Take(
        int fd, string name, StatInfo stat, OpenFlags flags, LockingMode mode, Action<string> warn,
        bool ofdExists = true)
    {
        if (mode == LockingMode.Off)
        {
            return null;
        }

        bool ofd = ofdExists
            && SysFileLock.TryTest(fd, true, SysFileLock.F_WRLCK, 0, 0, out _) != -Errno.EINVAL;
        if (!ofd)
        {
            if (mode == LockingMode.On)
            {
                throw Impossible(name, "this system has no open file description locks", Errno.EINVAL);
            }

            warn($"{name}: this system has no open file description locks; POSIX locks are used, which vanish when any "
                + "other part of this program closes the same file");
        }

        var locks = new FileLocks(fd, ofd, name, stat, flags.Writable);
        try
        {
            int errno = locks.TryHold(flags.ForceShare);
            if (errno == 0)
            {
                return locks;
            }

            if (mode == LockingMode.On)
            {
                throw Impossible(name, "its file system does not lock", errno);
            }

            warn($"{name}: cannot be locked against other programs ({Errno.Format(errno)}); make sure that nothing "
                + "else writes it");
            locks.Release();
            return null;
        }
        catch
        {
            locks.Release();
            throw;
        }
    }

    /// <summary>Gives the locks back. Explicitly, because a child process may have inherited the descriptor.</summary>
    public void Release()
    {
        _ = SysFileLock.TrySet(_fd, _ofd, SysFileLock.F_UNLCK, UsedBase, 4);
        _ = SysFileLock.TrySet(_fd, _ofd, SysFileLock.F_UNLCK, UnsharedBase, 4);
    }

    private static BlockException Impossible(string name, string why, int errno)
    {
        var e = new BlockException(BlockErrorKind.NotSupported, $"cannot be locked: {why}")
        {
            Errno = errno,
            Hint = "Use locking=auto if nothing else writes the image.",
        };
        e.Stamp(name, null);
        return e;
    }

    /// <summary>0, or the positive errno that says why this file cannot be locked at all.</summary>
    private int TryHold(bool forceShare)
    {
        int[] uses = _writable ? WriterUses : ReaderUses;
        int[] excluded = forceShare ? [] : Excluded;
        int errno = Hold(UsedBase, uses);
        if (errno == 0)
        {
            errno = Hold(UnsharedBase, excluded);
        }

        // Writers first: "which writes it" says more than "which does not bear to be written".
        if (errno == 0)
        {
            errno = Look(UsedBase, excluded);
        }

        return errno == 0 ? Look(UnsharedBase, uses) : errno;
    }

    private int Hold(long start, int[] uses)
    {
        foreach (int use in uses)
        {
            int errno = -SysFileLock.TrySet(_fd, _ofd, SysFileLock.F_RDLCK, start + use, 1);
            if (errno is Errno.EAGAIN or Errno.EACCES)
            {
                throw Conflict(start + use, 0);
            }

            if (errno != 0)
            {
                return errno;
            }
        }

        return 0;
    }

    private int Look(long start, int[] uses)
    {
        foreach (int use in uses)
        {
            int errno = -SysFileLock.TryTest(_fd, _ofd, SysFileLock.F_WRLCK, start + use, 1, out int holder);
            if (errno != 0)
            {
                return errno;
            }

            if (holder != 0)
            {
                throw Conflict(start + use, holder);
            }
        }

        return 0;
    }

    private BlockException Conflict(long position, int knownHolder)
    {
        string who = LockHolders.Describe(_fd, _name, _stat, position, knownHolder);
        (string what, string hint) = position switch
        {
            UsedBase + Write or UsedBase + Resize when _writable => ("which writes it", "Close it first."),
            UsedBase + Write or UsedBase + Resize =>
                ("which writes it", "Close it, or use --force-share to read it anyway, while it may change."),
            UnsharedBase + Write or UnsharedBase + Resize =>
                ("which lets nobody else write it", "Close it, or use --read-only."),
            UnsharedBase + Read => ("which lets nobody else read it", "Close it first."),
            _ => ("which has locked it", "Close it first."),
        };
        var e = new BlockException(BlockErrorKind.InUse, $"in use by {who}, {what}")
        {
            Errno = Errno.EAGAIN,
            Hint = hint,
        };
        e.Stamp(_name, null);
        return e;
    }
}
