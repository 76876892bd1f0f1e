using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ImageMount.Core.Memory;

/// <summary>Where a buffer lies, for requests that must be aligned in memory too.</summary>
public static class BufferAddress
{
    /// <summary>True when the first byte's address is a multiple of <paramref name="alignment"/> (a power of two).</summary>
    public static unsafe bool IsAligned(ReadOnlySpan<byte> buffer, int alignment) =>

        // SAFETY: only the number is used; memory that can move is not aligned by contract, and a wrong "aligned" for
        // it would be refused by the kernel with EINVAL, never read or written astray.
        ((nuint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(buffer)) & (nuint)(alignment - 1)) == 0;
}
