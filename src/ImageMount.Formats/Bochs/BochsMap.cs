using System.Numerics;
using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Bits;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Bochs;

/// <summary>
/// The catalog, whole in memory, and the bitmaps of stored extents, cached: a sector is stored when its extent is and
/// its bit is set; all others read as zeroes.
/// </summary>
internal sealed class BochsMap : IExtentMap
{
    private const long BitmapCacheBytes = 4 << 20;
    private readonly BlockNode _file;
    private readonly uint[] _catalog;
    private readonly LeafTableCache _cache = new(BitmapCacheBytes);
    private readonly LeafTable?[] _bitmaps;
    private readonly SemaphoreSlim _loading = new(1);

    private BochsMap(BlockNode file, BochsHeader header, uint[] catalog)
    {
        _file = file;
        Header = header;
        _catalog = catalog;
        _bitmaps = new LeafTable?[header.Extents];
    }

    /// <summary>The header's facts.</summary>
    public BochsHeader Header { get; }

    /// <summary>The file.</summary>
    public BlockNode File => _file;

    /// <summary>Entries of the disk's extents.</summary>
    public ReadOnlySpan<uint> Catalog => _catalog.AsSpan(0, Header.Extents);

    /// <inheritdoc/>
    public long Length => Header.DiskSize;

    /// <inheritdoc/>
    public BlockNode? Backing => null;

    /// <summary>Reads header and catalog.</summary>
    public static async ValueTask<BochsMap> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        BochsHeader header = await BochsHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        var catalog = new uint[header.CatalogEntries];
        using BufferLease bytes = BufferPool.Shared.Rent(catalog.Length * sizeof(uint));
        await file.ReadAsync(header.CatalogOffset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        Convert(bytes.Span, catalog);
        return new BochsMap(file, header, catalog);
    }

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        int extent = (int)(guestOffset / Header.ExtentSize);
        long end = guestOffset + Math.Min(count, Length - guestOffset);
        if (_catalog[extent] == BochsLayout.NotStored)
        {
            int next = extent + 1;
            while (next < Header.Extents && (long)next * Header.ExtentSize < end
                && _catalog[next] == BochsLayout.NotStored)
            {
                next++;
            }

            return new(MappedRun.Zero(Math.Min(end, (long)next * Header.ExtentSize) - guestOffset));
        }

        return LeafTableCache.Find(_bitmaps, extent) is { } bitmap
            ? new(RunOf(bitmap, extent, guestOffset, end))
            : LookupSlowlyAsync(extent, guestOffset, end, cancellationToken);
    }

    /// <summary>Where an extent is stored: its bitmap, then its sectors.</summary>
    /// <exception cref="BlockException">InvalidData when that is not inside the file.</exception>
    public long PlaceOf(int extent)
    {
        long offset = Header.DataOffset + (_catalog[extent] * Header.PlaceSize);
        if (offset > _file.Length - Header.PlaceSize)
        {
            var e = BlockException.Invalid($"extent {extent} is stored outside the file",
                Header.CatalogOffset + ((long)extent * sizeof(uint)), $"0x{offset:x}",
                $"{Header.PlaceSize} bytes inside {_file.Length}");
            e.Stamp(_file.Name, null);
            throw e;
        }

        return offset;
    }

    /// <summary>The bitmap of a stored extent, from the cache or the file.</summary>
    public async ValueTask<LeafTable> GetBitmapAsync(int extent, CancellationToken cancellationToken)
    {
        await _loading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (LeafTableCache.Find(_bitmaps, extent) is { } known)
            {
                return known;
            }

            var words = new uint[((Header.ExtentSize / BochsLayout.SectorSize) + 31) / 32];
            using BufferLease bytes = BufferPool.Shared.Rent(Math.Max(words.Length * sizeof(uint), Header.BitmapSize));
            await _file.ReadAsync(PlaceOf(extent), bytes.Memory[..Header.BitmapSize], cancellationToken)
                .ConfigureAwait(false);
            Convert(bytes.Span, words);
            var bitmap = new LeafTable(_bitmaps, extent, words);
            _cache.Add(bitmap, isNew: false);
            return bitmap;
        }
        finally
        {
            _loading.Release();
        }
    }

    private static void Convert(ReadOnlySpan<byte> stored, Span<uint> values)
    {
        ReadOnlySpan<Le32> numbers = MemoryMarshal.Cast<byte, Le32>(stored);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = numbers[i];
        }
    }

    private async ValueTask<MappedRun> LookupSlowlyAsync(
        int extent, long guestOffset, long end, CancellationToken cancellationToken)
    {
        LeafTable bitmap = await GetBitmapAsync(extent, cancellationToken).ConfigureAwait(false);
        return RunOf(bitmap, extent, guestOffset, end);
    }

    private MappedRun RunOf(LeafTable bitmap, int extent, long guestOffset, long end)
    {
        long start = (long)extent * Header.ExtentSize;
        end = Math.Min(end, start + Header.ExtentSize);
        int sector = (int)((guestOffset - start) / BochsLayout.SectorSize);
        int last = (int)((end - start + BochsLayout.SectorSize - 1) / BochsLayout.SectorSize);
        bool isStored = (bitmap[sector / 32] >> (sector % 32) & 1) != 0;
        int next = NextChange(bitmap, sector, last, isStored);
        long length = Math.Min(end, start + ((long)next * BochsLayout.SectorSize)) - guestOffset;
        return isStored
            ? MappedRun.Data(length, _file, PlaceOf(extent) + Header.BitmapSize + (guestOffset - start))
            : MappedRun.Zero(length);
    }

    /// <summary>The first sector after one whose bit is different, at most <paramref name="last"/>.</summary>
    private static int NextChange(LeafTable bitmap, int sector, int last, bool value)
    {
        while (sector < last)
        {
            uint word = bitmap[sector / 32];
            uint others = (value ? ~word : word) >> (sector % 32);
            if (others != 0)
            {
                return Math.Min(last, sector + BitOperations.TrailingZeroCount(others));
            }

            sector = (sector / 32 + 1) * 32;
        }

        return last;
    }
}
