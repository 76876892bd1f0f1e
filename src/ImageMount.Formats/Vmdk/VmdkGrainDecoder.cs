using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// A compressed grain with its marker ("Stream-Optimized Compressed"): sector in the extent, length, zlib stream. The
/// marker's sector is verified, so that a table that points to the wrong grain is an error and not wrong data.
/// </summary>
/// <param name="extentStart">Guest offset of the extent.</param>
/// <param name="grainSize">Bytes of a whole grain.</param>
internal sealed class VmdkGrainDecoder(long extentStart, int grainSize) : IUnitDecoder
{
    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded) =>
        throw new InvalidOperationException("a grain is decoded with its place");

    /// <inheritdoc/>
    public void Decode(in CompressedUnit unit, ReadOnlySpan<byte> stored, Span<byte> decoded)
    {
        var reader = new SpanReader(stored);
        if (!reader.TryRead(out Le64 sector) || !reader.TryRead(out Le32 size))
        {
            throw BlockException.Invalid("the file ends inside the marker of a grain", unit.HostOffset);
        }

        ulong expected = (ulong)(unit.GuestOffset - extentStart) / VmdkLayout.SectorSize;
        if (sector != expected)
        {
            throw BlockException.Invalid(
                "a grain's marker names another grain", unit.HostOffset, $"sector {sector}", $"sector {expected}");
        }

        if (size > int.MaxValue || !reader.TryTake((int)size.Value, out ReadOnlySpan<byte> stream))
        {
            throw BlockException.Invalid("the length of a compressed grain is impossible", unit.HostOffset + 8,
                $"{size} bytes", $"at most {reader.Remaining}");
        }

        ZlibDecoder decoder = decoded.Length == grainSize ? ZlibDecoder.Instance : ZlibDecoder.Prefix;
        decoder.Decode(stream, decoded);
    }
}
