using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>Where a block is, in bits.</summary>
/// <param name="StartBit">First bit, from the beginning of the file.</param>
/// <param name="BitCount">Bits, the magic included.</param>
/// <param name="Level">The digit of its stream's header.</param>
internal readonly record struct Bzip2Place(long StartBit, int BitCount, byte Level)
{
    /// <summary>First byte of the file that has bits of it.</summary>
    public long HostOffset => StartBit / 8;

    /// <summary>Bytes of the file that have bits of it.</summary>
    public int StoredLength => (int)(((StartBit + BitCount + 7) / 8) - HostOffset);
}

/// <summary>
/// The decoding of one block: it is moved to a byte boundary and made a stream of its own, with a header before it and
/// the end after it, whose checksum is the block's. So the library verifies the checksum, and that the block ends where
/// the next one begins.
/// </summary>
internal sealed class Bzip2Block : UnitStream
{
    private const int EndSize = (Bzip2Layout.MagicBits + Bzip2Layout.ChecksumBits) / 8;
    private const string What = "a bzip2 block";

    private readonly Bzip2Place _place;
    private readonly BufferLease _stored;
    private readonly BufferLease _stream;
    private readonly int _streamLength;
    private readonly Bzip2StreamDecoder _decoder = new();
    private int _filled;
    private int _next;

    public Bzip2Block(in Bzip2Place place)
    {
        _place = place;
        _stored = BufferPool.Shared.Rent(place.StoredLength + 1);
        _streamLength = Bzip2Layout.StreamHeaderSize + ((place.BitCount + 7) / 8) + EndSize;
        _stream = BufferPool.Shared.Rent(_streamLength);
    }

    /// <inheritdoc/>
    public override bool Step(ReadOnlySpan<byte> stored, Span<byte> decoded, out int taken, out int given)
    {
        taken = Math.Min(stored.Length, _place.StoredLength - _filled);
        given = 0;
        stored[..taken].CopyTo(_stored.Span[_filled..]);
        _filled += taken;
        if (_filled < _place.StoredLength)
        {
            return false;
        }

        if (taken > 0)
        {
            MakeStream();
        }

        NativeDecodeStatus status = _decoder.Decode(
            _stream.Span[_next.._streamLength], decoded, out int used, out given);
        _next += used;
        if (!IsEnd(_decoder, status, What))
        {
            return false;
        }

        // Less than a byte may be left: the end of the stream is followed by bits that fill up its last byte.
        return _streamLength - _next <= 1 ? true : throw BlockException.Invalid($"{What} ends too early");
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _decoder.Dispose();
        _stored.Dispose();
        _stream.Dispose();
    }

    private void MakeStream()
    {
        Span<byte> stream = _stream.Span;
        stream.Clear();
        Bzip2Layout.StreamMagic.CopyTo(stream);
        stream[3] = _place.Level;
        Span<byte> body = stream[Bzip2Layout.StreamHeaderSize..];
        Span<byte> stored = _stored.Span;
        stored[_place.StoredLength] = 0;
        int shift = (int)(_place.StartBit % 8);
        int length = (_place.BitCount + 7) / 8;
        for (int i = 0; i < length; i++)
        {
            int next = i + 1 <= _place.StoredLength ? stored[i + 1] : 0;
            body[i] = (byte)((stored[i] << shift) | (next >> (8 - shift)));
        }

        int rest = _place.BitCount % 8;
        if (rest != 0)
        {
            body[length - 1] &= (byte)(0xff << (8 - rest));
        }

        Span<byte> end = stackalloc byte[8 + EndSize];
        BinaryPrimitives.WriteUInt64BigEndian(end, Bzip2Layout.EndMagic << 16);
        body.Slice(Bzip2Layout.MagicBits / 8, Bzip2Layout.ChecksumBits / 8).CopyTo(end[(Bzip2Layout.MagicBits / 8)..]);
        int at = _place.BitCount / 8;
        for (int i = 0; i < EndSize; i++)
        {
            body[at + i] |= (byte)(end[i] >> rest);
            if (rest != 0)
            {
                body[at + i + 1] |= (byte)(end[i] << (8 - rest));
            }
        }
    }
}
