using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>poll(2) on one descriptor.</summary>
public static partial class SysPoll
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
