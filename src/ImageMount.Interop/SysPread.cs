using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>pread(2), until everything is read.</summary>
public static unsafe partial class SysPread
{
    /// <summary>
    /// Bytes read: the whole buffer; fewer at the end of the file, with errno 0; or fewer before a failure, with a
    /// positive errno. EINTR and short reads are dealt with.
    /// </summary>
    /// <param name="fd">Open descriptor; the caller keeps it open. Not a SafeHandle, whose reference count would be two
    /// interlocked operations on one cache line that all threads share.</param>
    /// <param name="buffer">Filled from the start.</param>
    /// <param name="offset">Position in the file, bytes.</param>
    /// <param name="alignment">Power of two that O_DIRECT asks for; 1 for none.</param>
    /// <param name="errno">0, or a positive errno.</param>
    public static long Read(int fd, Span<byte> buffer, long offset, int alignment, out int errno)
    {
        // SAFETY: the buffer is pinned for the duration of the calls, which write no more than its length.
        fixed (byte* pointer = buffer)
        {
            return TransferLoop.Run(default(Call), fd, pointer, buffer.Length, offset, alignment, out errno);
        }
    }

    private readonly struct Call : ITransferCall
    {
        public nint Transfer(int fd, byte* buffer, nuint count, long offset)
        {
            nint result = NativePread(fd, buffer, count, offset);
            return result >= 0 ? result : -Marshal.GetLastPInvokeError();
        }
    }

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    private static partial nint NativePread(int fd, byte* buffer, nuint count, long offset);
}
