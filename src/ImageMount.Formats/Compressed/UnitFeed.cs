using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Compressed;

/// <summary>Takes decoded bytes of a unit, in order.</summary>
internal delegate void UnitSink(long offsetInUnit, ReadOnlySpan<byte> decoded);

/// <summary>
/// Decodes a unit of any size in pieces, as far as somebody wants it, and later on from there. One user at a time.
/// After a <see cref="BlockException"/> of the decoding it is of no more use.
/// </summary>
internal sealed class UnitFeed : IDisposable
{
    private const int Piece = 256 << 10;

    private readonly PackedContent _content;
    private readonly PackedUnit _unit;
    private readonly UnitStream _stream;
    private long _fed;

    /// <summary>Begins at the start of a unit.</summary>
    public UnitFeed(PackedContent content, int unit)
    {
        _content = content;
        _unit = content.Index[unit];
        _stream = content.Begin(unit);
    }

    /// <summary>Bytes decoded so far.</summary>
    public long Made { get; private set; }

    /// <summary>True when the unit was decoded to its end, and its checks were right.</summary>
    public bool HasEnded { get; private set; }

    /// <summary>A unit that does not give what the index says of it.</summary>
    public static BlockException WrongLength(long made, long expected) => BlockException.Invalid(
        made < expected ? "a compressed unit ends too early" : "a compressed unit is longer than the index says", null,
        made < expected ? $"{made} bytes" : null, $"{expected} bytes");

    /// <summary>
    /// Decodes until at least <paramref name="target"/> bytes of the unit were made; all of them means to the end of
    /// the stored form too, where the checks are.
    /// </summary>
    public async ValueTask RunAsync(long target, UnitSink sink, CancellationToken cancellationToken)
    {
        using BufferLease stored = BufferPool.Shared.Rent(Piece);
        using BufferLease decoded = BufferPool.Shared.Rent(Piece);
        int next = 0;
        int end = 0;
        while (Made < target || (target == _unit.Length && !HasEnded))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (next == end && _fed < _unit.StoredLength)
            {
                next = 0;
                end = (int)Math.Min(Piece, _unit.StoredLength - _fed);
                await _content.File.ReadAsync(_unit.HostOffset + _fed, stored.Memory[..end], cancellationToken)
                    .ConfigureAwait(false);
            }

            Step(stored.Span[next..end], decoded.Span, sink, out int taken);
            next += taken;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private void Step(ReadOnlySpan<byte> stored, Span<byte> decoded, UnitSink sink, out int taken)
    {
        decoded = decoded[..(int)Math.Min(decoded.Length, _unit.Length - Made)];
        int given;
        try
        {
            HasEnded = _stream.Step(stored, decoded, out taken, out given);
            if (HasEnded ? Made + given != _unit.Length
                : taken == 0 && given == 0 && (stored.Length > 0 || _fed == _unit.StoredLength))
            {
                throw WrongLength(Made + given, _unit.Length);
            }
        }
        catch (BlockException e)
        {
            e.Stamp(_content.File.Name, _unit.HostOffset);
            throw;
        }

        if (given > 0)
        {
            sink(Made, decoded[..given]);
        }

        Made += given;
        _fed += taken;
    }
}
