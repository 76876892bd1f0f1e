using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>flock(2): a lock on a whole file or folder that ends with the open descriptor.</summary>
public static partial class SysFlock
{
    private const int LOCK_SH = 1;
    private const int LOCK_EX = 2;
    private const int LOCK_NB = 4;
    private const int LOCK_UN = 8;

    /// <summary>Takes the lock alone, without waiting: 0, or -EWOULDBLOCK when somebody has it, or another
    /// -errno.</summary>
    public static int TryLock(SafeFileHandle file) => Try(file, LOCK_EX);

    /// <summary>Takes the lock together with others who do the same, without waiting: 0, or -EWOULDBLOCK when somebody
    /// has it alone, or another -errno.</summary>
    public static int TryLockShared(SafeFileHandle file) => Try(file, LOCK_SH);

    private static int Try(SafeFileHandle file, int operation)
    {
        while (true)
        {
            if (NativeFlock(file, operation | LOCK_NB) == 0)
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

    /// <summary>
    /// Gives the lock back. Closing alone does not always: a process that is just being started has the descriptor
    /// too.
    /// </summary>
    public static void Unlock(SafeFileHandle file) => _ = NativeFlock(file, LOCK_UN);

    [LibraryImport("libc", EntryPoint = "flock", SetLastError = true)]
    private static partial int NativeFlock(SafeFileHandle file, int operation);
}
