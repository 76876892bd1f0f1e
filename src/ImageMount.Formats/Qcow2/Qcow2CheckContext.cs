using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Qcow2;

/// <summary>What the parts of one check share: the file, the counts, the report, and how the file is read.</summary>
internal sealed class Qcow2CheckContext(Qcow2CheckFacts facts, BlockNode file)
{
    public Qcow2CheckFacts Facts { get; } = facts;

    public BlockNode File { get; } = file;

    public Qcow2CheckCounts Counts { get; } = new();

    public CheckReport Report { get; } = new();

    public long FileLength { get; } = file.Length;

    /// <summary>Clusters of the file, the last one perhaps in part.</summary>
    public long FileClusters => FileLength + Facts.ClusterSize - 1 >> Facts.ClusterBits;

    public bool IsAligned(long offset) => (offset & Facts.ClusterSize - 1) == 0;

    /// <summary>Records a corruption that <paramref name="times"/> references run into.</summary>
    public void Corrupt(string problem, long times = 1)
    {
        Report.Corruption(problem);
        Report.Corruptions += times - 1;
    }

    /// <summary>
    /// Counts references to every cluster that a range touches. A range may end up to one cluster after the end of
    /// the file (the last cluster need not be complete); what reaches further is a corruption and is not counted.
    /// </summary>
    /// <returns>
    /// False when the range does not lie in the file, or when a table lies over another of its kind: such a table is
    /// not to be read, or the time of a check would not be bounded by the size of the file.
    /// </returns>
    public bool AddReferences(long offset, long size, ClusterUse use, long count = 1)
    {
        if (size <= 0)
        {
            return true;
        }

        if (offset < 0 || size > long.MaxValue - offset || offset + size - FileLength >= Facts.ClusterSize)
        {
            Corrupt($"{Name(use)} at 0x{offset:x} reaches past the end of the file (0x{FileLength:x})", count);
            return false;
        }

        bool isTable = use is ClusterUse.L1Table or ClusterUse.BitmapTable;
        bool isFirst = true;
        long last = offset + size - 1 >> Facts.ClusterBits;
        for (long cluster = offset >> Facts.ClusterBits; cluster <= last; cluster++)
        {
            isFirst &= !isTable || (Counts.Use(cluster) & use) == 0;
            Counts.Add(cluster, use, count);
        }

        return isFirst;
    }

    /// <summary>
    /// How many bytes from an offset on are a hole, so that they need not be read: a sparse file may pretend to hold
    /// terabytes of tables.
    /// </summary>
    public async ValueTask<long> HoleAtAsync(long offset, long count, CancellationToken cancellationToken)
    {
        long available = Math.Min(count, FileLength - offset);
        if (available <= 0)
        {
            return count;
        }

        BlockExtent extent = await File.MapAsync(offset, available, cancellationToken).ConfigureAwait(false);
        return !extent.IsZero ? 0 : extent.Length == available ? count : extent.Length;
    }

    /// <summary>Reads from the file; what lies after its end reads as zeroes. False, and noted, when it cannot be read.</summary>
    public async ValueTask<bool> TryReadAsync(long offset, Memory<byte> buffer, string what, CancellationToken cancellationToken)
    {
        long available = Math.Clamp(FileLength - offset, 0, buffer.Length);
        buffer.Span[(int)available..].Clear();
        try
        {
            if (available > 0)
            {
                await File.ReadAsync(offset, buffer[..(int)available], cancellationToken).ConfigureAwait(false);
            }

            return true;
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.IoError)
        {
            Report.Error($"cannot read {what} at 0x{offset:x}: {e.Message}");
            return false;
        }
    }

    public static string Name(ClusterUse use) => use switch
    {
        ClusterUse.Header => "header",
        ClusterUse.L1Table => "L1 table",
        ClusterUse.L2Table => "L2 table",
        ClusterUse.RefcountTable => "refcount table",
        ClusterUse.RefcountBlock => "refcount block",
        ClusterUse.SnapshotTable => "snapshot table",
        ClusterUse.BitmapDirectory => "bitmap directory",
        ClusterUse.BitmapTable => "bitmap table",
        ClusterUse.BitmapData => "bitmap data",
        ClusterUse.GuestData => "guest data",
        ClusterUse.CompressedData => "compressed data",
        ClusterUse.EncryptionHeader => "encryption header",
        _ => string.Join(" and ", Enum.GetValues<ClusterUse>().Where(u => u != 0 && use.HasFlag(u)).Select(Name)),
    };
}
