using System.Buffers;
using System.Runtime.InteropServices;

namespace ImageMount.Core.Memory;

/// <summary>
/// Aligned memory outside the GC heap, usable as <see cref="Memory{T}"/>: it never moves, so it can be handed to the
/// kernel while a request is under way. Owned by one user at a time; <see cref="BufferPool"/> recycles it. There is no
/// finalizer: memory that a span may still use must not vanish, so an owner who forgets to dispose leaks it.
/// </summary>
public sealed unsafe class NativeBuffer : MemoryManager<byte>
{
    /// <summary>Alignment of every buffer, bytes: a page, which satisfies O_DIRECT on all known devices.</summary>
    public const int Alignment = 4096;

    private byte* _pointer;

    /// <summary>Allocates zeroed, page-aligned memory.</summary>
    /// <param name="size">Bytes, 1 or more.</param>
    public NativeBuffer(int size)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 1);

        // SAFETY: the block lives until Dispose; AlignedAlloc throws when there is no memory.
        _pointer = (byte*)NativeMemory.AlignedAlloc((nuint)size, Alignment);
        NativeMemory.Clear(_pointer, (nuint)size);
        Size = size;
    }

    /// <summary>Usable bytes.</summary>
    public int Size { get; }

    /// <summary>Address of the first byte.</summary>
    public byte* Pointer => _pointer;

    /// <inheritdoc/>
    public override Memory<byte> Memory => CreateMemory(Size);

    /// <inheritdoc/>
    public override Span<byte> GetSpan() => new(_pointer, _pointer is null ? 0 : Size);

    /// <inheritdoc/>
    public override MemoryHandle Pin(int elementIndex = 0)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)elementIndex, (uint)Size, nameof(elementIndex));
        return new MemoryHandle(_pointer + elementIndex);
    }

    /// <inheritdoc/>
    public override void Unpin()
    {
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        // SAFETY: freed once; the owner guarantees that no request uses the memory any more.
        NativeMemory.AlignedFree(_pointer);
        _pointer = null;
    }
}
