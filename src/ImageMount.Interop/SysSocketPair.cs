using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>socketpair(2): two connected Unix stream sockets.</summary>
public static unsafe partial class SysSocketPair
{
    private const int AF_UNIX = 1;
    private const int SOCK_STREAM = 1;
    private const int SOCK_CLOEXEC = 0x80000;

    /// <summary>Both ends. Neither is inherited by children unless <see cref="SysFcntl.ClearCloseOnExec"/> says so.
    /// Throws <see cref="ErrnoException"/>.</summary>
    public static (SafeFileHandle First, SafeFileHandle Second) Create()
    {
        int* pair = stackalloc int[2];
        // SAFETY: socketpair fills in exactly two descriptors.
        if (NativeSocketPair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        {
            throw new ErrnoException("socketpair", null, Marshal.GetLastPInvokeError());
        }
        return (new SafeFileHandle(pair[0], true), new SafeFileHandle(pair[1], true));
    }

    [LibraryImport("libc", EntryPoint = "socketpair", SetLastError = true)]
    private static partial int NativeSocketPair(int domain, int type, int protocol, int* pair);
}
