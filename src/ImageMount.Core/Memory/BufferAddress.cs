using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ImageMount.Core.Memory;

/// <summary>Where a buffer lies, for requests that must be aligned in memory too.</summary>
public static class BufferAddress
{
    /// <summary>
    /// True when the first byte's address is, and stays, a multiple of <paramref name="alignment"/> (a power of two).
    /// An array never counts: the collector may move it between this look and the request.
    /// </summary>
    public static unsafe bool IsAligned(ReadOnlyMemory<byte> buffer, int alignment)
    {
        if (MemoryMarshal.TryGetArray(buffer, out _))
        {
            return alignment <= 1;
        }

        // SAFETY: only the number is used, and what is not an array lies in native memory, which does not move.
        return ((nuint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(buffer.Span)) & (nuint)(alignment - 1)) == 0;
    }
}
