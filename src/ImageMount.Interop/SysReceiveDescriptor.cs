using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>recvmsg(2), for the one purpose of receiving a descriptor (SCM_RIGHTS, unix(7)).</summary>
public static unsafe partial class SysReceiveDescriptor
{
    private const int SOL_SOCKET = 1;
    private const int SCM_RIGHTS = 1;
    private const int MSG_CMSG_CLOEXEC = 0x40000000;

    /// <summary>Waits for a message on <paramref name="socket"/>. The descriptor that came with it, or null when the
    /// other end hung up or sent none. Throws <see cref="ErrnoException"/>.</summary>
    public static SafeFileHandle? Receive(SafeFileHandle socket)
    {
        byte payload;
        var vector = new IoVector { Base = &payload, Length = 1 };
        var control = new Control();
        var message = new MessageHeader
        {
            Vectors = &vector,
            VectorCount = 1,
            Control = &control,
            ControlLength = (nuint)sizeof(Control),
        };
        nint received;
        // SAFETY: everything the header points to lives on this stack frame for the duration of the call.
        while ((received = NativeReceive(socket, &message, MSG_CMSG_CLOEXEC)) < 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                throw new ErrnoException("recvmsg", null, errno);
            }
        }
        bool present = received > 0 && message.ControlLength >= ControlHeaderSize + sizeof(int)
            && control.Length >= ControlHeaderSize + sizeof(int) && control.Level == SOL_SOCKET
            && control.Type == SCM_RIGHTS;
        return present ? new SafeFileHandle(control.Descriptor, ownsHandle: true) : null;
    }

    private const int ControlHeaderSize = 16;

    [StructLayout(LayoutKind.Sequential)]
    private struct IoVector
    {
        public void* Base;
        public nuint Length;
    }

    // struct msghdr of 64-bit Linux.
    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public IoVector* Vectors;
        public nuint VectorCount;
        public Control* Control;
        public nuint ControlLength;
        public int Flags;
    }

    // struct cmsghdr and room for one descriptor (CMSG_SPACE(sizeof(int)) = 24).
    [StructLayout(LayoutKind.Sequential)]
    private struct Control
    {
        public nuint Length;
        public int Level;
        public int Type;
        public int Descriptor;
        public int Padding;
    }

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    private static partial nint NativeReceive(SafeFileHandle socket, MessageHeader* message, int flags);
}
