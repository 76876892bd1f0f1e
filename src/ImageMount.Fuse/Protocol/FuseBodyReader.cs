using System.Buffers.Binary;
using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>
/// Reads a request's body front to back and cannot read past its end: a field that is not there reads as zero and sets
/// <see cref="Error"/>, which the handler looks at once, before it acts.
/// </summary>
internal ref struct FuseBodyReader(ReadOnlyMemory<byte> body)
{
    private readonly ReadOnlyMemory<byte> _memory = body;
    private readonly ReadOnlySpan<byte> _span = body.Span;
    private int _position;

    /// <summary>0, or the positive errno with which a malformed body is answered; the first one stays.</summary>
    public int Error { get; private set; }

    public readonly int Remaining => _span.Length - _position;

    public uint U32() => Take(4) ? BinaryPrimitives.ReadUInt32LittleEndian(_span[(_position - 4)..]) : 0;

    public ulong U64() => Take(8) ? BinaryPrimitives.ReadUInt64LittleEndian(_span[(_position - 8)..]) : 0;

    public void Skip(int count) => Take(count);

    /// <summary>A file offset or length: 64 bits of which the kernel never sets the top one.</summary>
    public long Offset()
    {
        ulong value = U64();
        if (value > long.MaxValue)
        {
            Fail(Errno.EINVAL);
            return 0;
        }
        return (long)value;
    }

    /// <summary>A file name up to its NUL: 1…255 bytes without '/'.</summary>
    public FuseName Name()
    {
        FuseName name = Text(FuseConstants.NameMax);
        if (Error == 0 && name.Span.Contains((byte)'/'))
        {
            Fail(Errno.EINVAL);
        }
        return name;
    }

    /// <summary>A text up to its NUL, 1…<paramref name="limit"/> bytes.</summary>
    public FuseName Text(int limit)
    {
        if (Error != 0)
        {
            return default;
        }
        int length = _span[_position..].IndexOf((byte)0);
        if (length <= 0)
        {
            Fail(Errno.EINVAL);
            return default;
        }
        if (length > limit)
        {
            Fail(Errno.ENAMETOOLONG);
            return default;
        }
        var name = new FuseName(_memory.Slice(_position, length));
        _position += length + 1;
        return name;
    }

    /// <summary>The next <paramref name="count"/> bytes.</summary>
    public ReadOnlyMemory<byte> Bytes(uint count)
    {
        if (count > (uint)Remaining)
        {
            Fail(Errno.EINVAL);
            return default;
        }
        ReadOnlyMemory<byte> bytes = _memory.Slice(_position, (int)count);
        _position += (int)count;
        return bytes;
    }

    private bool Take(int count)
    {
        if (Error != 0 || count > Remaining)
        {
            Fail(Errno.EINVAL);
            return false;
        }
        _position += count;
        return true;
    }

    private void Fail(int errno)
    {
        if (Error == 0)
        {
            Error = errno;
        }
    }
}
