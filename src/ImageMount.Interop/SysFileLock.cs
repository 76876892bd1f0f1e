using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// fcntl(2) record locks on byte ranges: of the open file description (OFD, shared by whoever inherits the
/// descriptor, gone when the last one is closed) or of the process (POSIX, gone when any descriptor of the file is
/// closed). Advisory: they bind only who asks.
/// </summary>
public static unsafe partial class SysFileLock
{
    internal const int F_GETLK = 5;
    internal const int F_SETLK = 6;
    private const int F_OFD_GETLK = 36;
    private const int F_OFD_SETLK = 37;

    public const short F_RDLCK = 0;
    public const short F_WRLCK = 1;
    public const short F_UNLCK = 2;

    /// <summary>Takes or releases (F_UNLCK) a lock without waiting. 0 or -errno; -EAGAIN or -EACCES: somebody's lock
    /// stands against it.</summary>
    public static int TrySet(int fd, bool ofd, short type, long start, long length)
    {
        var record = new Flock { Type = type, Start = start, Length = length };
        return Call(fd, ofd ? F_OFD_SETLK : F_SETLK, &record);
    }

    /// <summary>
    /// Finds a lock that would stand against one of <paramref name="type"/>. 0 or -errno. <paramref name="holder"/> is
    /// 0 when there is none, else the process that holds it; -1 when the kernel does not say (OFD locks).
    /// </summary>
    public static int TryTest(int fd, bool ofd, short type, long start, long length, out int holder)
    {
        var record = new Flock { Type = type, Start = start, Length = length };
        int result = Call(fd, ofd ? F_OFD_GETLK : F_GETLK, &record);
        holder = result != 0 || record.Type == F_UNLCK ? 0 : record.Pid;
        return result;
    }

    private static int Call(int fd, int command, Flock* record)
    {
        while (true)
        {
            if (NativeFcntl(fd, command, record) != -1)
            {
                return 0;
            }

            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return -errno;
            }
        }
    }

    // struct flock of 64-bit Linux; l_whence 0 is SEEK_SET; l_pid must be 0 for the OFD commands.
    [StructLayout(LayoutKind.Sequential)]
    internal struct Flock
    {
        public short Type;
        public short Whence;
        public long Start;
        public long Length;
        public int Pid;
    }

    // SAFETY: the structure lives on the caller's stack during the call. fcntl(2) is variadic; see SysOpen.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int NativeFcntl(int fd, int command, Flock* record);
}
