namespace ImageMount.TestSupport.Crash;

/// <summary>
/// The bytes of a simulated file by sectors of 512 bytes, over another store that it leaves as it is. What no store
/// holds is zero.
/// </summary>
internal sealed class SectorStore
{
    /// <summary>What a disk writes whole or not at all, bytes.</summary>
    public const int SectorSize = 512;

    private static readonly byte[] s_zeroes = new byte[SectorSize];
    private readonly Dictionary<long, byte[]> _sectors = [];
    private readonly SectorStore? _below;
    private readonly byte[] _initial;

    public SectorStore(byte[] initial)
    {
        _initial = initial;
        Length = initial.Length;
    }

    public SectorStore(SectorStore below)
    {
        _below = below;
        _initial = [];
        Length = below.Length;
    }

    /// <summary>Length of the file, bytes.</summary>
    public long Length { get; set; }

    /// <summary>One sector, to be read only. Bytes behind the end of the file are zero.</summary>
    public ReadOnlySpan<byte> Sector(long index)
    {
        for (SectorStore? store = this; store is not null; store = store._below)
        {
            if (store._sectors.TryGetValue(index, out byte[]? sector))
            {
                return sector;
            }

            long at = index * SectorSize;
            if (store._below is null && at < store._initial.Length)
            {
                if (at + SectorSize <= store._initial.Length)
                {
                    return store._initial.AsSpan((int)at, SectorSize);
                }

                var last = new byte[SectorSize];
                store._initial.AsSpan((int)at).CopyTo(last);
                return last;
            }
        }

        return s_zeroes;
    }

    /// <summary>Replaces a sector; the array belongs to the store from now on and is never changed.</summary>
    public void Put(long index, byte[] sector) => _sectors[index] = sector;

    /// <summary>Copies bytes out.</summary>
    public void Read(long offset, Span<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            int skip = (int)(offset % SectorSize);
            int count = Math.Min(SectorSize - skip, buffer.Length);
            Sector(offset / SectorSize).Slice(skip, count).CopyTo(buffer);
            offset += count;
            buffer = buffer[count..];
        }
    }
}
