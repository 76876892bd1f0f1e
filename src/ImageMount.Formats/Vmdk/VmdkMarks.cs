namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Remembers for a check which places of a file are taken, a bit for each unit. Memory is used where there are places,
/// and has a bound: in files too large for it, places that are shared are not found.
/// </summary>
internal sealed class VmdkMarks
{
    /// <summary>Most bits: 128 MiB of them.</summary>
    private const long MaxBits = 1L << 30;

    private const int ChunkBits = 1 << 16;

    private readonly ulong[]?[] _chunks;
    private readonly long _unit;
    private readonly bool _isExact;

    /// <summary>Makes the memory.</summary>
    /// <param name="fileLength">Bytes of the file.</param>
    /// <param name="unit">Bytes that no two places share: the grain, or a sector where grains are compressed.</param>
    public VmdkMarks(long fileLength, int unit)
    {
        _unit = unit;
        while (fileLength / _unit >= MaxBits)
        {
            _unit *= 2;
        }

        _isExact = _unit == unit;
        _chunks = new ulong[]?[(fileLength / _unit / ChunkBits) + 1];
    }

    /// <summary>Takes the unit of an offset inside the file; false when it is known to be taken already.</summary>
    public bool TryTake(long offset)
    {
        long unit = offset / _unit;
        ulong[] chunk = _chunks[unit / ChunkBits] ??= new ulong[ChunkBits / 64];
        int at = (int)(unit % ChunkBits);
        ulong bit = 1UL << (at % 64);
        bool taken = (chunk[at / 64] & bit) != 0;
        chunk[at / 64] |= bit;
        return !taken || !_isExact;
    }
}
