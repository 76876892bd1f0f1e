using System.Globalization;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Verifies an image: states that exist for the kind of disk, places inside the file and apart from each other and from
/// the metadata, a sector bitmap for every chunk with a block that is present in part, both region tables, and what
/// of the file behind the metadata nothing refers to. Headers, log and metadata were verified when it was opened.
/// </summary>
internal sealed class VhdxCheck
{
    private readonly VhdxImage _image;
    private readonly VhdxGeometry _geometry;
    private readonly CheckReport _report = new();
    private readonly long _fileLength;
    private readonly long _diskSize;
    private readonly HashSet<long> _bitmapsMissing = [];
    private readonly HashSet<long> _bitmapsFound = [];
    private long _previous;
    private long _end;

    private VhdxCheck(VhdxImage image, long diskSize)
    {
        _diskSize = diskSize;
        _image = image;
        _geometry = image.Geometry;
        _fileLength = image.File.Length;
        _end = image.Regions.End;
    }

    /// <summary>Runs the check on what is in the file.</summary>
    public static async ValueTask<CheckReport> RunAsync(
        VhdxImage image, long diskSize, CancellationToken cancellationToken)
    {
        var check = new VhdxCheck(image, diskSize);
        CheckReport report = check._report;
        report.TotalClusters = image.Geometry.BlocksOf(diskSize);
        report.AllocatedClusters = 0;
        report.FragmentedClusters = 0;
        await check.CheckRegionTablesAsync(cancellationToken).ConfigureAwait(false);
        VhdxUsage usage = await VhdxUsage.ReadAsync(image, diskSize, check.Visit, cancellationToken)
            .ConfigureAwait(false);
        foreach (long entry in check._bitmapsMissing.Except(check._bitmapsFound).Order())
        {
            report.Corruption($"blocks are present in part, but their sector bitmap (BAT entry {entry}) is missing");
        }

        check.CountLeaks(usage);
        report.ImageEndOffset = check._end;
        return report;
    }

    private static string Hex(long value) => "0x" + value.ToString("x", CultureInfo.InvariantCulture);

    private async ValueTask CheckRegionTablesAsync(CancellationToken cancellationToken)
    {
        using BufferLease first = BufferPool.Shared.Rent(VhdxLayout.RegionTableSize);
        using BufferLease second = BufferPool.Shared.Rent(VhdxLayout.RegionTableSize);
        await _image.File.ReadAsync(VhdxLayout.RegionTable1Offset, first.Memory, cancellationToken)
            .ConfigureAwait(false);
        await _image.File.ReadAsync(VhdxLayout.RegionTable2Offset, second.Memory, cancellationToken)
            .ConfigureAwait(false);
        if (!VhdxRegions.IsValid(first.Span))
        {
            _report.Corruption("the first region table is damaged");
        }
        else if (!VhdxRegions.IsValid(second.Span))
        {
            _report.Corruption("the second region table is damaged");
        }
        else if (!UsedPart(first.Span).SequenceEqual(UsedPart(second.Span)))
        {
            _report.Corruption("the two region tables differ");
        }
    }

    private static ReadOnlySpan<byte> UsedPart(ReadOnlySpan<byte> table)
    {
        int entries = (int)MemoryMarshal.Read<VhdxRawRegionHeader>(table).EntryCount.Value;
        return table.Slice(8, 8 + (entries * Marshal.SizeOf<VhdxRawRegion>()));
    }

    private void Visit(long index, ulong entry, bool wasUsed)
    {
        bool isBitmap = _geometry.IsBitmapEntry(index);
        VhdxState state = VhdxMap.StateOf(entry);
        if (!Exists(state, isBitmap))
        {
            _report.Corruption($"BAT entry {index} has a state that does not exist for this disk: {(int)state}");
            return;
        }

        if (!VhdxUsage.HasPlace(entry, isBitmap))
        {
            return;
        }

        bool isStored = state is VhdxState.FullyPresent or VhdxState.PartiallyPresent;
        if (isBitmap)
        {
            _bitmapsFound.Add(index);
        }
        else if (isStored)
        {
            _report.AllocatedClusters++;
            CountFragment(VhdxMap.PlaceOf(entry));
        }

        if (state == VhdxState.PartiallyPresent)
        {
            _bitmapsMissing.Add(
                (index / (_geometry.ChunkRatio + 1) * (_geometry.ChunkRatio + 1L)) + _geometry.ChunkRatio);
        }

        CheckPlace(index, VhdxMap.PlaceOf(entry), isBitmap, wasUsed, isStored);
    }

    private void CheckPlace(long index, long place, bool isBitmap, bool wasUsed, bool isStored)
    {
        // The last block may end with the disk: its rest is never asked for.
        long blockIndex = index - (index / (_geometry.ChunkRatio + 1));
        long needed = isBitmap ? VhdxLayout.MiB
            : Math.Min(_geometry.BlockSize, _diskSize - (blockIndex << _geometry.BlockBits));
        if (place < VhdxLayout.HeaderSectionSize || place > _fileLength - needed)
        {
            if (isStored)
            {
                _report.Corruption($"BAT entry {index} names a place outside the file: {Hex(place)}");
            }

            return;
        }

        if (wasUsed)
        {
            _report.Corruption($"BAT entry {index} names a place that is in use already: {Hex(place)}");
        }

        _end = Math.Max(_end, place + needed);
    }

    private bool Exists(VhdxState state, bool isBitmap) => isBitmap
        ? state == VhdxState.NotPresent || (state == VhdxState.FullyPresent && _geometry.HasParent)
        : state is VhdxState.NotPresent or VhdxState.Undefined or VhdxState.Zero or VhdxState.Unmapped
            or VhdxState.FullyPresent || (state == VhdxState.PartiallyPresent && _geometry.HasParent);

    private void CountFragment(long place)
    {
        if (_previous != 0 && place != _previous + _geometry.BlockSize)
        {
            _report.FragmentedClusters++;
        }

        _previous = place;
    }

    /// <summary>Free space among the structures is how programs lay a file out, and no leak.</summary>
    private void CountLeaks(VhdxUsage usage)
    {
        for (long unit = _image.Regions.End >> 20; unit < usage.Units;)
        {
            long first = unit;
            while (unit < usage.Units && !usage.IsUsed(unit))
            {
                unit++;
            }

            if (unit > first)
            {
                _report.Leak($"{unit - first} MiB at {Hex(first << 20)} belong to no block", unit - first);
            }

            unit++;
        }
    }
}
