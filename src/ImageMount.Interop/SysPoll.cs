using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>poll(2) on one descriptor, or two.</summary>
public static unsafe partial class SysPoll
{
    private const short POLLIN = 1;

    /// <summary>Waits until the descriptor is readable (for a pidfd: the process has ended). 1, 0 after
    /// <paramref name="timeoutMs"/> (-1: never), or -errno; EINTR included.</summary>
    public static int WaitReadable(SafeFileHandle handle, int timeoutMs)
    {
        bool held = false;
        try
        {
            handle.DangerousAddRef(ref held);
            var poll = new PollFd { Fd = (int)handle.DangerousGetHandle(), Events = POLLIN };
            int result = NativePoll(ref poll, 1, timeoutMs);
            return result < 0 ? -Marshal.GetLastPInvokeError() : result;
        }
        finally
        {
            if (held)
            {
                handle.DangerousRelease();
            }
        }
    }

    /// <summary>
    /// Waits until a descriptor is ready for one of the events, or another is readable; what the first is ready for, 0 after
    /// <paramref name="timeoutMs"/> (-1: never) and after EINTR.
    /// </summary>
    /// <param name="fd">Owned by somebody else; negative: only the other counts.</param>
    /// <param name="events">POLLIN 1, POLLOUT 4.</param>
    /// <param name="other">Kept open by the caller.</param>
    /// <param name="timeoutMs">Milliseconds.</param>
    /// <param name="isOtherReady">The other is readable.</param>
    public static short WaitTwo(int fd, short events, SafeFileHandle other, int timeoutMs, out bool isOtherReady)
    {
        PollFd* both = stackalloc PollFd[2];
        both[0] = new PollFd { Fd = fd, Events = events };
        both[1] = new PollFd { Fd = (int)other.DangerousGetHandle(), Events = POLLIN };

        // SAFETY: exactly two structures, on the stack during the call.
        int result = NativePoll(ref *both, 2, timeoutMs);
        isOtherReady = result > 0 && both[1].Returned != 0;
        return result > 0 ? both[0].Returned : (short)0;
    }

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int NativePoll(ref PollFd fds, nuint count, int timeoutMs);

    /// <summary>struct pollfd.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct PollFd
    {
        public int Fd;
        public short Events;
        public short Returned;
    }
}
