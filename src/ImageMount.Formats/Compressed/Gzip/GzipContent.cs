using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>A gzip file whose units are known.</summary>
internal sealed class GzipContent(BlockNode file, GzipCheckpoints checkpoints, string indexedBy)
    : PackedContent(file, checkpoints.Index)
{
    /// <inheritdoc/>
    public override UnitStream Begin(int unit) => new Piece(checkpoints[unit], Index[unit]);

    /// <inheritdoc/>
    public override bool HasCheck(int unit) => checkpoints[unit].HasCrc;

    /// <inheritdoc/>
    public override void Describe(DeviceInfo info) => info.FormatSpecific.Add(new("indexed-by", indexedBy));

    /// <summary>The decoding of one unit, compared with the checksum that the first pass found.</summary>
    private sealed class Piece : UnitStream
    {
        private const string What = "a deflate stream";

        private readonly InflateStreamDecoder _inflate = new();
        private readonly GzipCheckpoint _checkpoint;
        private readonly PackedUnit _unit;
        private bool _begun;
        private long _made;
        private long _taken;
        private uint _crc;

        public Piece(in GzipCheckpoint checkpoint, in PackedUnit unit)
        {
            _checkpoint = checkpoint;
            _unit = unit;
            if (checkpoint.Window is { } packed)
            {
                using BufferLease window = BufferPool.Shared.Rent(InflateStreamDecoder.WindowSize);
                int length = GzipCheckpoints.Unpack(packed, window.Span);
                _inflate.SetWindow(window.Span[..length]);
            }
        }

        public override bool Step(ReadOnlySpan<byte> stored, Span<byte> decoded, out int taken, out int given)
        {
            taken = given = 0;
            if (!_begun && _checkpoint.Bits > 0)
            {
                if (stored.IsEmpty)
                {
                    return false;
                }

                _inflate.Prime(_checkpoint.Bits, stored[0] >> (8 - _checkpoint.Bits));
                stored = stored[1..];
                taken = 1;
            }

            _begun = true;
            decoded = decoded[..(int)Math.Min(decoded.Length, _unit.Length - _made)];
            NativeDecodeStatus status = _inflate.Decode(stored, decoded, out int used, out given);
            bool streamEnds = IsEnd(_inflate, status, What);
            taken += used;
            _taken += taken;
            _made += given;
            _crc = InflateStreamDecoder.Crc32(_crc, decoded[..given]);
            if (streamEnds && (!_checkpoint.EndsStream || _taken != _unit.StoredLength))
            {
                throw BlockException.Invalid($"{What} ends at another place than when the file was opened");
            }

            // A unit in the middle is over with its last byte, one at the end with the end of the stream.
            bool isOver = _checkpoint.EndsStream ? streamEnds : _made == _unit.Length;
            if (isOver && _checkpoint.HasCrc && _made == _unit.Length && _crc != _checkpoint.Crc)
            {
                throw BlockException.Invalid(
                    "the checksum of a piece of the gzip file is wrong", null, $"0x{_crc:x8}",
                    $"0x{_checkpoint.Crc:x8}");
            }

            return isOver;
        }

        public override void Dispose() => _inflate.Dispose();
    }
}
