using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>A region of the file.</summary>
/// <param name="Id">What it is.</param>
/// <param name="Offset">Place, bytes.</param>
/// <param name="Length">Bytes.</param>
internal readonly record struct VhdxRegion(Guid Id, long Offset, long Length)
{
    /// <summary>First byte after it.</summary>
    public long End => Offset + Length;
}

/// <summary>The region table (2.2.3): where BAT and metadata are. Two copies; the first valid one counts.</summary>
internal sealed class VhdxRegions
{
    private VhdxRegions(VhdxRegion bat, VhdxRegion metadata, VhdxRegion[] structures, bool isSecond)
    {
        Bat = bat;
        Metadata = metadata;
        Structures = structures;
        IsSecondCopy = isSecond;
        End = structures.Max(region => region.End);
    }

    /// <summary>The block allocation table.</summary>
    public VhdxRegion Bat { get; }

    /// <summary>The metadata.</summary>
    public VhdxRegion Metadata { get; }

    /// <summary>All that is not a block: header section, log and regions, in the order of their places.</summary>
    public IReadOnlyList<VhdxRegion> Structures { get; }

    /// <summary>First byte behind all structures.</summary>
    public long End { get; }

    /// <summary>True when the first copy is damaged.</summary>
    public bool IsSecondCopy { get; }

    /// <summary>Reads and validates the table.</summary>
    public static async ValueTask<VhdxRegions> ReadAsync(
        BlockNode file, VhdxHeader header, CancellationToken cancellationToken)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(VhdxLayout.RegionTableSize);
        foreach (long offset in (long[])[VhdxLayout.RegionTable1Offset, VhdxLayout.RegionTable2Offset])
        {
            await file.ReadAsync(offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
            if (IsValid(bytes.Span))
            {
                return Parse(bytes.Span, offset, header, file.Length);
            }
        }

        throw BlockException.Invalid("both region tables are damaged", VhdxLayout.RegionTable1Offset);
    }

    /// <summary>True when a table has its signature and its checksum.</summary>
    public static bool IsValid(ReadOnlySpan<byte> table) =>
        new SpanReader(table).TryRead(out VhdxRawRegionHeader head) && head.Signature == VhdxLayout.RegionSignature
        && head.Checksum == VhdxLayout.Checksum(table) && head.EntryCount <= VhdxLayout.MaxTableEntries;

    /// <summary>True when a range touches anything that is not a block.</summary>
    public bool Overlaps(long offset, long count)
    {
        if (offset >= End)
        {
            return false;
        }

        foreach (VhdxRegion region in Structures)
        {
            if (offset < region.End && region.Offset < offset + count)
            {
                return true;
            }
        }

        return false;
    }

    private static VhdxRegions Parse(ReadOnlySpan<byte> table, long tableOffset, VhdxHeader header, long fileLength)
    {
        var reader = new SpanReader(table);
        reader.TryRead(out VhdxRawRegionHeader head);
        var regions = new List<VhdxRegion>((int)head.EntryCount.Value + 2);
        VhdxRegion? bat = null;
        VhdxRegion? metadata = null;
        for (uint i = 0; i < head.EntryCount; i++)
        {
            long at = tableOffset + reader.Position;
            reader.TryRead(out VhdxRawRegion raw); // 2047 entries fit: checked with the head.
            VhdxRegion region = Check(raw, at, fileLength);
            regions.Add(region);
            if (region.Id == VhdxLayout.BatRegion)
            {
                bat = Once(bat, region, at);
            }
            else if (region.Id == VhdxLayout.MetadataRegion)
            {
                metadata = Once(metadata, region, at);
            }
            else if ((raw.Required & 1) != 0)
            {
                throw BlockException.Unsupported(
                    $"the file needs a region that is not known: {region.Id:B} at 0x{region.Offset:x}");
            }
        }

        if (bat is null || metadata is null)
        {
            throw BlockException.Invalid(
                $"the region table names no {(bat is null ? "block allocation table" : "metadata")}", tableOffset);
        }

        regions.Add(new VhdxRegion(Guid.Empty, 0, VhdxLayout.HeaderSectionSize));
        if (header.LogLength > 0)
        {
            regions.Add(new VhdxRegion(Guid.Empty, header.LogOffset, header.LogLength));
        }

        regions.Sort(static (a, b) => a.Offset.CompareTo(b.Offset));
        for (int i = 1; i < regions.Count; i++)
        {
            if (regions[i].Offset < regions[i - 1].End)
            {
                throw BlockException.Invalid(
                    "regions or the log overlap", tableOffset,
                    $"0x{regions[i - 1].Offset:x}+0x{regions[i - 1].Length:x} and 0x{regions[i].Offset:x}");
            }
        }

        return new VhdxRegions(
            bat.Value, metadata.Value, [.. regions], tableOffset == VhdxLayout.RegionTable2Offset);
    }

    private static VhdxRegion Once(VhdxRegion? known, VhdxRegion region, long at) => known is null
        ? region
        : throw BlockException.Invalid($"the region {region.Id:B} is named twice", at);

    private static VhdxRegion Check(in VhdxRawRegion raw, long at, long fileLength)
    {
        ulong offset = raw.FileOffset;
        uint length = raw.Length;
        if (offset % VhdxLayout.MiB != 0 || length % VhdxLayout.MiB != 0 || length == 0
            || offset < (ulong)VhdxLayout.HeaderSectionSize || offset > (ulong)fileLength
            || length > (ulong)fileLength - offset)
        {
            throw BlockException.Invalid(
                $"the region {raw.Id.Value:B} has an impossible place", at, $"0x{offset:x}+0x{length:x}",
                $"multiples of 1 MiB inside the file of 0x{fileLength:x} bytes");
        }

        return new VhdxRegion(raw.Id, (long)offset, length);
    }
}
