using System.Runtime.CompilerServices;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Compressed;

/// <summary>A part of a compressed file that can be decoded without the parts before it.</summary>
/// <param name="GuestOffset">Where it begins in the unpacked content, bytes.</param>
/// <param name="Length">Bytes when decoded; at least 1.</param>
/// <param name="HostOffset">Where it begins in the file, bytes.</param>
/// <param name="StoredLength">Bytes of the file that it takes; 0 for a unit that is known to be all zeroes.</param>
internal readonly record struct PackedUnit(long GuestOffset, long Length, long HostOffset, long StoredLength)
{
    /// <summary>End in the unpacked content.</summary>
    public long GuestEnd => GuestOffset + Length;

    /// <summary>True when it need not be decoded.</summary>
    public bool IsZero => StoredLength == 0;
}

/// <summary>
/// The units of a compressed file, in order and without gaps. Complete before it is used; then it does not change and
/// is read without locks. Its memory is bounded, because files can be made of very many very small units.
/// </summary>
internal sealed class PackedIndex(long maxBytes)
{
    private readonly List<PackedUnit> _units = [];
    private long _extraBytes;

    /// <summary>Units.</summary>
    public int Count => _units.Count;

    /// <summary>Bytes of the unpacked content.</summary>
    public long Length => _units.Count == 0 ? 0 : _units[^1].GuestEnd;

    /// <summary>Memory it takes, bytes.</summary>
    public long Bytes => ((long)_units.Capacity * Unsafe.SizeOf<PackedUnit>()) + _extraBytes;

    /// <summary>True when it takes more memory than it may.</summary>
    public bool IsTooLarge => Bytes > maxBytes;

    /// <summary>A unit.</summary>
    public PackedUnit this[int index] => _units[index];

    /// <summary>Adds the unit that follows.</summary>
    /// <param name="length">Bytes when decoded, 1 or more.</param>
    /// <param name="hostOffset">Where it begins in the file.</param>
    /// <param name="storedLength">Bytes of the file.</param>
    /// <param name="extraBytes">Memory that the format keeps for it besides.</param>
    public void Add(long length, long hostOffset, long storedLength, int extraBytes = 0)
    {
        if (length > long.MaxValue - Length)
        {
            throw BlockException.Invalid("the unpacked content is larger than any disk", hostOffset);
        }

        _units.Add(new PackedUnit(Length, length, hostOffset, storedLength));
        _extraBytes += extraBytes;
    }

    /// <summary>The last unit with another length or place; its beginning stays.</summary>
    public void ReplaceLast(PackedUnit unit) => _units[^1] = unit;

    /// <summary>Takes everything out, to be added again in another division.</summary>
    public PackedUnit[] TakeAll()
    {
        PackedUnit[] units = [.. _units];
        _units.Clear();
        _units.Capacity = 0;
        _extraBytes = 0;
        return units;
    }

    /// <summary>Refuses an index that takes more memory than it may.</summary>
    public void CheckSize()
    {
        if (IsTooLarge)
        {
            throw new BlockException(
                BlockErrorKind.LimitExceeded,
                $"the index of the compressed file takes too much memory ({Count} units so far)")
            {
                Found = $"{Bytes} bytes",
                Expected = $"at most {maxBytes}",
                Hint = "Allow more with the option index-memory, or unpack the file.",
            };
        }
    }

    /// <summary>The unit that holds a byte of the content.</summary>
    public int Find(long guestOffset)
    {
        int low = 0;
        int high = _units.Count - 1;
        while (low < high)
        {
            int middle = low + ((high - low + 1) >> 1);
            if (_units[middle].GuestOffset <= guestOffset)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        return low;
    }
}
