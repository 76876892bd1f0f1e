using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Xz;

/// <summary>An .xz file whose blocks are known.</summary>
internal sealed class XzContent(
    BlockNode file, PackedIndex index, List<(byte Check, byte Padding)> blocks, int streams, long decoderMemory)
    : PackedContent(file, index)
{
    /// <inheritdoc/>
    public override UnitStream Begin(int unit)
    {
        (byte check, byte padding) = blocks[unit];
        PackedUnit place = Index[unit];
        return new Block(
            XzHeader.WriteHeader(check), XzHeader.WriteEnd(check, place.StoredLength - padding, place.Length),
            decoderMemory);
    }

    /// <inheritdoc/>
    public override bool HasCheck(int unit) => blocks[unit].Check != XzLayout.CheckNone;

    /// <inheritdoc/>
    public override void Describe(DeviceInfo info)
    {
        info.FormatSpecific.Add(new("streams", (long)streams));
        info.FormatSpecific.Add(new("check", blocks.Count == 0 ? "none" : blocks[0].Check switch
        {
            0 => "none",
            1 => "crc32",
            4 => "crc64",
            10 => "sha256",
            _ => $"{blocks[0].Check}",
        }));
    }

    /// <summary>
    /// One block as a stream of its own: a header before it, and an index and a footer after it, which make the library
    /// verify that the block has the sizes that the file's index gives it.
    /// </summary>
    private sealed class Block(byte[] header, byte[] end, long decoderMemory) : UnitStream
    {
        private const string What = "an xz block";

        private readonly XzStreamDecoder _decoder = new(decoderMemory);
        private int _headerTaken;
        private int _endTaken;

        public override bool Step(ReadOnlySpan<byte> stored, Span<byte> decoded, out int taken, out int given)
        {
            given = 0;
            taken = 0;
            while (_headerTaken < header.Length)
            {
                NativeDecodeStatus begun = _decoder.Decode(header.AsSpan(_headerTaken), default, out int used, out _);
                IsEnd(_decoder, begun, What);
                _headerTaken += used;
            }

            NativeDecodeStatus status = _decoder.Decode(stored, decoded, out taken, out given);
            if (IsEnd(_decoder, status, What))
            {
                throw BlockException.Invalid($"{What} is damaged (a stream ends inside it)");
            }

            if (taken > 0 || given > 0 || !stored.IsEmpty)
            {
                return false;
            }

            // The block is all in. Bytes that the end takes are not the file's, so they are not counted.
            bool ended = false;
            while (!ended && _endTaken < end.Length)
            {
                status = _decoder.Decode(end.AsSpan(_endTaken), decoded[given..], out int used, out int more);
                ended = IsEnd(_decoder, status, What);
                _endTaken += used;
                given += more;
                if (used == 0 && more == 0)
                {
                    break;
                }
            }

            return ended;
        }

        public override void Dispose() => _decoder.Dispose();
    }
}
