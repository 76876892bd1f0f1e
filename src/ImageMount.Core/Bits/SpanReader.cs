using System.Runtime.InteropServices;

namespace ImageMount.Core.Bits;

/// <summary>
/// Reads structures from a span and cannot leave it: too little input is <c>false</c>, a normal result, never an
/// exception from below.
/// </summary>
public ref struct SpanReader(ReadOnlySpan<byte> source)
{
    private readonly ReadOnlySpan<byte> _source = source;

    /// <summary>Bytes read so far.</summary>
    public int Position { get; private set; }

    /// <summary>Bytes left.</summary>
    public readonly int Remaining => _source.Length - Position;

    /// <summary>Reads an unmanaged structure (made of <see cref="Be32"/> and the like, packed).</summary>
    public bool TryRead<T>(out T value)
        where T : unmanaged
    {
        if (!MemoryMarshal.TryRead(_source[Position..], out value))
        {
            return false;
        }

        Position += System.Runtime.CompilerServices.Unsafe.SizeOf<T>();
        return true;
    }

    /// <summary>Takes the next <paramref name="count"/> bytes.</summary>
    public bool TryTake(int count, out ReadOnlySpan<byte> bytes)
    {
        if (count < 0 || count > Remaining)
        {
            bytes = default;
            return false;
        }

        bytes = _source.Slice(Position, count);
        Position += count;
        return true;
    }

    /// <summary>Moves to an absolute position.</summary>
    public bool TrySeek(int position)
    {
        if (position < 0 || position > _source.Length)
        {
            return false;
        }

        Position = position;
        return true;
    }
}
