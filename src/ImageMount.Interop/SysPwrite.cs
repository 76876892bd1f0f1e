using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>pwrite(2), until everything is written.</summary>
public static unsafe partial class SysPwrite
{
    /// <summary>
    /// Bytes written: the whole buffer, or fewer with a positive errno. EINTR and short writes are dealt with.
    /// </summary>
    /// <param name="fd">Open descriptor; the caller keeps it open.</param>
    /// <param name="buffer">What to write.</param>
    /// <param name="offset">Position in the file, bytes.</param>
    /// <param name="alignment">Power of two that O_DIRECT asks for; 1 for none.</param>
    /// <param name="errno">0, or a positive errno.</param>
    public static long Write(int fd, ReadOnlySpan<byte> buffer, long offset, int alignment, out int errno)
    {
        // SAFETY: the buffer is pinned for the duration of the calls, which only read it.
        fixed (byte* pointer = buffer)
        {
            return TransferLoop.Run(default(Call), fd, pointer, buffer.Length, offset, alignment, out errno);
        }
    }

    private readonly struct Call : ITransferCall
    {
        public nint Transfer(int fd, byte* buffer, nuint count, long offset)
        {
            nint result = NativePwrite(fd, buffer, count, offset);
            return result >= 0 ? result : -Marshal.GetLastPInvokeError();
        }
    }

    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    private static partial nint NativePwrite(int fd, byte* buffer, nuint count, long offset);
}
