using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Compressed;

/// <summary>
/// The units of a compressed file as runs: zeroes, units for the cache of decoded units, and large units, whose bytes
/// are asked of the spool.
/// </summary>
internal sealed class PackedMap(PackedContent content, long spoolAbove, BlockNode spool) : IExtentMap
{
    private readonly PackedIndex _index = content.Index;
    private readonly IUnitDecoder _decoder = content.WholeUnits ?? new UnitDecoder(content);

    /// <inheritdoc/>
    public long Length => _index.Length;

    /// <inheritdoc/>
    public BlockNode? Backing => null;

    /// <summary>True for a unit that the cache of decoded units can take.</summary>
    public bool IsSmall(in PackedUnit unit) => unit.Length <= spoolAbove && unit.StoredLength <= 2 * spoolAbove;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        PackedUnit unit = _index[_index.Find(guestOffset)];
        long length = Math.Min(count, unit.GuestEnd - guestOffset);
        if (unit.IsZero)
        {
            return new(MappedRun.Zero(length));
        }

        return new(IsSmall(unit)
            ? MappedRun.Compressed(length, new CompressedUnit(
                content.File, unit.HostOffset, (int)unit.StoredLength, unit.GuestOffset, (int)unit.Length, _decoder))
            : MappedRun.Data(length, spool, guestOffset));
    }

    /// <summary>Decodes whole units for the cache.</summary>
    private sealed class UnitDecoder(PackedContent content) : IUnitDecoder
    {
        public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded) =>
            throw new InvalidOperationException("units of compressed files are known by their place");

        public void Decode(in CompressedUnit unit, ReadOnlySpan<byte> stored, Span<byte> decoded)
        {
            using UnitStream stream = content.Begin(content.Index.Find(unit.GuestOffset));
            int filled = 0;
            bool ended = false;
            while (!ended)
            {
                ended = stream.Step(stored, decoded[filled..], out int taken, out int given);
                stored = stored[taken..];
                filled += given;
                if (ended ? filled != decoded.Length : taken == 0 && given == 0)
                {
                    throw UnitFeed.WrongLength(filled, decoded.Length);
                }
            }
        }
    }
}
