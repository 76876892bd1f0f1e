using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// The sector bitmaps that stand before the blocks, cached: a set bit says that the sector is stored here, a clear one
/// that it is the parent's (or, without a parent, was never written).
/// </summary>
internal sealed class VpcBitmaps
{
    private const int SliceSize = 512;
    private const int SectorsPerSlice = SliceSize * 8;
    private const long CacheBytes = 1 << 20;

    private readonly BlockNode _file;
    private readonly Lock _lock = new();
    private readonly TableCache _cache;
    private TableCapture? _capture;

    /// <summary>Makes the cache.</summary>
    public VpcBitmaps(BlockNode file)
    {
        _file = file;
        _cache = new TableCache(file, _lock, SliceSize, CacheBytes, WordOrder.BigEndian);
    }

    /// <summary>True when so much is changed that it should be written back.</summary>
    public bool IsCrowded => _cache.IsCrowded;

    /// <summary>How many sectors from a first one on have the same bit, at most so many; from the cache only.</summary>
    public bool TryRun(long bitmap, int first, int most, out bool isSet, out int sectors)
    {
        isSet = false;
        sectors = 0;
        while (sectors < most)
        {
            int sector = first + sectors;
            long key = bitmap + (sector / SectorsPerSlice * SliceSize);
            TableSlice? slice = _cache.TryFind(key);
            if (slice is null || !slice.TryBeginRead(key, out int version))
            {
                return sectors > 0;
            }

            int inSlice = sector % SectorsPerSlice;
            int end = Math.Min(SectorsPerSlice, inSlice + most - sectors);
            bool bit = (slice.Word(inSlice / 64) << (inSlice % 64) >> 63) != 0;
            int stop = RunEnd(slice, inSlice, end, sectors == 0 ? bit : isSet);
            if (!slice.EndRead(version))
            {
                return sectors > 0;
            }

            isSet = sectors == 0 ? bit : isSet;
            sectors += stop - inSlice;
            if (stop < end)
            {
                return true;
            }
        }

        return true;
    }

    /// <summary>The same, reading what is not cached.</summary>
    public async ValueTask<(bool IsSet, int Sectors)> RunAsync(long bitmap, int first, int most)
    {
        while (true)
        {
            if (TryRun(bitmap, first, most, out bool isSet, out int sectors))
            {
                return (isSet, sectors);
            }

            await _cache.GetAsync(bitmap + (first / SectorsPerSlice * SliceSize)).ConfigureAwait(false);
        }
    }

    /// <summary>Sets the bits of sectors, in memory.</summary>
    public async ValueTask SetAsync(long bitmap, int first, int count)
    {
        int end = first + count;
        while (first < end)
        {
            long key = bitmap + (first / SectorsPerSlice * SliceSize);
            await _cache.GetAsync(key).ConfigureAwait(false);
            lock (_lock)
            {
                if (_cache.Find(key) is not { } slice)
                {
                    continue; // Evicted in between.
                }

                int stop = Math.Min(end, (first / SectorsPerSlice * SectorsPerSlice) + SectorsPerSlice);
                slice.BeginChange();
                for (; first < stop; first++)
                {
                    int bit = first % SectorsPerSlice;
                    slice.SetWord(bit / 64, slice.Word(bit / 64) | 1UL << (63 - (bit % 64)));
                }

                slice.EndChange();
                _cache.MarkDirty(slice);
            }
        }
    }

    /// <summary>Takes copies of what is changed.</summary>
    public void Capture()
    {
        lock (_lock)
        {
            _capture = _cache.Capture();
        }
    }

    /// <summary>Writes the copies. False: there are none.</summary>
    public async ValueTask<bool> WriteAsync(CancellationToken cancellationToken)
    {
        if (_capture!.IsEmpty)
        {
            return false;
        }

        await _capture.WriteAsync(_file, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <summary>Ends the write-back.</summary>
    public void Complete(bool succeeded)
    {
        lock (_lock)
        {
            if (_capture is not null)
            {
                _cache.Complete(_capture, succeeded);
                _capture = null;
            }
        }
    }

    private static int RunEnd(TableSlice slice, int from, int end, bool isSet)
    {
        while (from < end)
        {
            // The bits from here on, at the top of a word, as ones where they differ.
            ulong word = slice.Word(from / 64);
            ulong differing = (isSet ? ~word : word) << (from % 64);
            int same = Math.Min(BitOperations.LeadingZeroCount(differing), 64 - (from % 64));
            from += same;
            if (same == 0 || from % 64 != 0)
            {
                break;
            }
        }

        return Math.Min(from, end);
    }
}
