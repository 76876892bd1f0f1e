using System.Buffers.Binary;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Volume;

/// <summary>
/// Reads entries of a FAT through a few pages, so that a FAT of any size costs little memory. Not for several threads.
/// </summary>
/// <param name="disk">The disk.</param>
/// <param name="geometry">Its volume.</param>
internal sealed class FatTable(IDiskReader disk, VolumeGeometry geometry)
{
    /// <summary>Bytes of a page: whole sectors, and whole entries of 12, 16 and 32 bits.</summary>
    public const int PageSize = 3 * 16384;

    private const int MaxPages = 64;
    private readonly Dictionary<long, byte[]> _pages = [];
    private readonly Queue<long> _order = new();
    private long _currentNumber = -1;
    private byte[] _current = [];

    private long Base => geometry.FatOffset + Math.Max(geometry.ActiveFat, 0) * geometry.FatLength;

    /// <summary>Where the entry of a cluster stands on the disk.</summary>
    public long OffsetOf(uint cluster) => Base + ByteOf(cluster);

    /// <summary>The value of an entry; the upper four bits of FAT32 are left out.</summary>
    public async ValueTask<uint> GetAsync(uint cluster, CancellationToken cancellationToken)
    {
        long at = ByteOf(cluster);
        if (at / PageSize != _currentNumber)
        {
            await LoadAsync(at / PageSize, cancellationToken).ConfigureAwait(false);
        }

        return Decode(_current, (int)(at % PageSize), cluster);
    }

    /// <summary>True when <see cref="Get"/> can answer at once.</summary>
    public bool IsLoaded(uint cluster) => ByteOf(cluster) / PageSize == _currentNumber;

    /// <summary>The value of an entry on the page that was used last.</summary>
    public uint Get(uint cluster) => Decode(_current, (int)(ByteOf(cluster) % PageSize), cluster);

    /// <summary>
    /// True when a page of the copies has the same bytes as the one that is in use; compared only where all are kept
    /// alike.
    /// </summary>
    public async ValueTask<bool> CopiesAgreeAsync(long page, CancellationToken cancellationToken)
    {
        if (geometry.ActiveFat >= 0 || geometry.FatCount == 1)
        {
            return true;
        }

        await LoadAsync(page, cancellationToken).ConfigureAwait(false);
        byte[] other = new byte[_current.Length];
        for (int copy = 1; copy < geometry.FatCount; copy++)
        {
            long at = geometry.FatOffset + copy * geometry.FatLength + page * PageSize;
            await disk.ReadAsync(at, other, cancellationToken).ConfigureAwait(false);
            if (!other.AsSpan().SequenceEqual(_current))
            {
                return false;
            }
        }

        return true;
    }

    private uint Decode(byte[] page, int at, uint cluster) => geometry.Type switch
    {
        FatType.Fat12 when (cluster & 1) == 0 => (uint)(page[at] | (page[at + 1] & 0x0f) << 8),
        FatType.Fat12 => (uint)(page[at] >> 4 | page[at + 1] << 4),
        FatType.Fat16 => BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(at)),
        _ => BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(at)) & FatLayout.Mask32,
    };

    private long ByteOf(uint cluster) => geometry.Type switch
    {
        FatType.Fat12 => cluster + (cluster >> 1),
        FatType.Fat16 => cluster * 2L,
        _ => cluster * 4L,
    };

    private async ValueTask LoadAsync(long number, CancellationToken cancellationToken)
    {
        if (!_pages.TryGetValue(number, out byte[]? page))
        {
            // The table itself is long enough for every cluster: VolumeGeometry has checked that.
            page = new byte[Math.Min(PageSize, geometry.FatLength - number * PageSize)];
            await disk.ReadAsync(Base + number * PageSize, page, cancellationToken).ConfigureAwait(false);
            if (_order.Count == MaxPages)
            {
                _pages.Remove(_order.Dequeue());
            }

            _pages.Add(number, page);
            _order.Enqueue(number);
        }

        (_current, _currentNumber) = (page, number);
    }
}
