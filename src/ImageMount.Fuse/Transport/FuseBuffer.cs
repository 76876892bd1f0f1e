using System.Buffers;
using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// The memory of one request: a page for headers, then the payload on a page boundary.
/// <code>
///   0 ......... 4096-80  4096-16   4096 ............... 4096 + capacity
///               │request │reply    │ WRITE data arrives here; READ data is put here
///               │header  │header   │
/// </code>
/// A WRITE is read in one piece from 4096-80 (fuse_in_header and fuse_write_in, 40 bytes each), so its data lands on
/// the page boundary that O_DIRECT wants. A reply is written in one piece from 4096-16. Both use the same pages: by the
/// time the reply's header is written, the request has been parsed and its operation has completed.
/// </summary>
internal sealed unsafe class FuseBuffer : MemoryManager<byte>
{
    /// <summary>Where requests are put.</summary>
    public const int RequestStart = FuseConstants.PageSize - 2 * WireSize.InHeader;

    /// <summary>Where payloads start.</summary>
    public const int PayloadStart = FuseConstants.PageSize;

    private readonly int _length;
    private byte* _address;

    /// <param name="capacity">Payload bytes, a multiple of the page size.</param>
    public FuseBuffer(int capacity)
    {
        _length = PayloadStart + capacity;
        _address = PageMemory.Map((nuint)_length);
        Whole = CreateMemory(_length);
    }

    /// <summary>All of it.</summary>
    public Memory<byte> Whole { get; }

    /// <summary>Bytes of address space.</summary>
    public int Length => _length;

    /// <summary>Address of byte <paramref name="offset"/>; valid until disposed.</summary>
    public byte* At(int offset) => _address + offset;

    /// <summary>Gives the payload's physical pages beyond the first 64 KiB back.</summary>
    public void Trim()
    {
        const int Keep = PayloadStart + (64 << 10);
        if (_length > Keep)
        {
            // SAFETY: inside our own mapping, and nobody has a request in it.
            PageMemory.Discard(_address + Keep, (nuint)(_length - Keep));
        }
    }

    // SAFETY: the mapping lives until Dispose; pools dispose a buffer only when no request is in it.
    public override Span<byte> GetSpan() => new(_address, _length);

    public override MemoryHandle Pin(int elementIndex = 0) => new(_address + elementIndex);

    public override void Unpin()
    {
    }

    protected override void Dispose(bool disposing)
    {
        if (_address != null)
        {
            PageMemory.Unmap(_address, (nuint)_length);
            _address = null;
        }
    }
}
