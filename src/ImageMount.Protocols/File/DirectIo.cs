using System.Numerics;
using ImageMount.Core.Memory;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Protocols.Files;

/// <summary>How a file is addressed with O_DIRECT: a descriptor of its own, and what its requests must look like.</summary>
internal sealed class DirectIo
{
    private const int SmallestGuess = 4096;
    private const int Largest = 64 << 10;

    private DirectIo(SafeFileHandle handle, int alignment, int memoryAlignment)
    {
        Handle = handle;
        Alignment = alignment;
        MemoryAlignment = memoryAlignment;
    }

    /// <summary>Opened with O_DIRECT.</summary>
    public SafeFileHandle Handle { get; }

    /// <summary>Of offset and length, bytes.</summary>
    public int Alignment { get; }

    /// <summary>Of the buffer's address, bytes.</summary>
    public int MemoryAlignment { get; }

    /// <summary>Opens the same file once more, directly; null and a reason when its file system refuses.</summary>
    /// <param name="buffered">The file, open already.</param>
    /// <param name="flags">O_RDONLY or O_RDWR.</param>
    /// <param name="stat">Of the file.</param>
    /// <param name="deviceBlock">0 for a regular file; the logical block size of a device.</param>
    /// <param name="refusal">Why not.</param>
    public static DirectIo? TryOpen(
        SafeFileHandle buffered, int flags, StatInfo stat, int deviceBlock, out string refusal)
    {
        if (stat.KnowsDirect && (stat.DirectOffsetAlignment == 0 || stat.DirectMemoryAlignment == 0))
        {
            refusal = "the kernel says that this file cannot";
            return null;
        }

        // By the descriptor, not by the path: the path may name another file by now.
        string self = $"/proc/self/fd/{buffered.DangerousGetHandle()}";
        SafeFileHandle? handle = SysOpen.TryOpen(self, flags | SysOpen.O_DIRECT, out int errno);
        if (handle is null)
        {
            refusal = Errno.Format(errno);
            return null;
        }

        int alignment = stat.KnowsDirect
            ? (int)Math.Min(stat.DirectOffsetAlignment, int.MaxValue)
            : FindAlignment((int)handle.DangerousGetHandle());
        alignment = Math.Max(alignment, deviceBlock);
        int memory = stat.KnowsDirect ? (int)Math.Min(stat.DirectMemoryAlignment, int.MaxValue) : alignment;
        if (alignment is > 0 and <= Largest && memory <= NativeBuffer.Alignment
            && BitOperations.IsPow2(alignment) && BitOperations.IsPow2(memory))
        {
            refusal = "";
            return new DirectIo(handle, alignment, memory);
        }

        handle.Dispose();
        refusal = alignment == 0 ? "no alignment was accepted" : $"it asks for blocks of {alignment} bytes";
        return null;
    }

    /// <summary>
    /// The smallest block that can be read, from 4 KiB up; 0 when none can. Not less: a file system may take a smaller
    /// block where the file has a hole and refuse it elsewhere.
    /// </summary>
    private static int FindAlignment(int fd)
    {
        using BufferLease lease = BufferPool.Shared.Rent(Largest);
        for (int size = SmallestGuess; size <= Largest; size *= 2)
        {
            SysPread.Read(fd, lease.Span[..size], 0, size, out int errno);
            if (errno != Errno.EINVAL)
            {
                // Another error is not a matter of alignment; the first request will report it.
                return size;
            }
        }

        return 0;
    }
}
