using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>pwritev2(2) with one buffer and RWF_DSYNC: a write that is durable when it returns.</summary>
public static unsafe partial class SysPwritev2
{
    private const int RWF_DSYNC = 2;

    /// <summary>
    /// Bytes written and durable: the whole buffer, or fewer with a positive errno. EOPNOTSUPP: this kernel or file
    /// system has no such write (Linux before 4.7).
    /// </summary>
    /// <param name="fd">Open descriptor; the caller keeps it open.</param>
    /// <param name="buffer">What to write.</param>
    /// <param name="offset">Position in the file, bytes.</param>
    /// <param name="alignment">Power of two that O_DIRECT asks for; 1 for none.</param>
    /// <param name="errno">0, or a positive errno.</param>
    public static long WriteDurably(int fd, ReadOnlySpan<byte> buffer, long offset, int alignment, out int errno)
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
            var vector = new IoVector { Base = buffer, Length = count };
            nint result = NativePwritev2(fd, &vector, 1, offset, RWF_DSYNC);
            return result >= 0 ? result : -Marshal.GetLastPInvokeError();
        }
    }

    // struct iovec.
    private struct IoVector
    {
        public byte* Base;
        public nuint Length;
    }

    [LibraryImport("libc", EntryPoint = "pwritev2", SetLastError = true)]
    private static partial nint NativePwritev2(int fd, IoVector* vectors, int count, long offset, int flags);
}
