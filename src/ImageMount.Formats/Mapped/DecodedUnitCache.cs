using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped;

/// <summary>Reads parts of compressed units.</summary>
public sealed class DecodedUnitCache
{
    /// <summary>Reads part of a unit, decoding it.</summary>
    /// <param name="unit">The unit.</param>
    /// <param name="offsetInUnit">First byte wanted, counted in decoded bytes.</param>
    /// <param name="destination">Where to put them; does not go past the unit.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async ValueTask ReadAsync(
        CompressedUnit unit, int offsetInUnit, Memory<byte> destination, CancellationToken cancellationToken)
    {
        using BufferLease stored = BufferPool.Shared.Rent(unit.StoredLength);
        await unit.Source.ReadAsync(unit.HostOffset, stored.Memory, cancellationToken).ConfigureAwait(false);
        using BufferLease decoded = BufferPool.Shared.Rent(unit.Length);
        unit.Decoder.Decode(stored.Span, decoded.Span);
        decoded.Span.Slice(offsetInUnit, destination.Length).CopyTo(destination.Span);
    }
}
