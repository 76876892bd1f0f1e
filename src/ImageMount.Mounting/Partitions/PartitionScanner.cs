using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Mounting.Partitions;

/// <summary>
/// Finds the partitions of a disk. As Linux does it: the first sector decides; a protective entry in it sends us to
/// the GPT; without one the DOS table counts. A disk with neither is one file system, or blank, and has no partitions.
/// </summary>
/// <remarks>
/// Whatever the bytes say, the result is a table and warnings; only a failing read throws
/// (<see cref="BlockException"/>). At most a few MiB are read: <see cref="GptLayout.MaxTableSize"/> and
/// <see cref="MbrReader.MaxChain"/> bound the work.
/// </remarks>
public static class PartitionScanner
{
    /// <summary>Reads the partition table of <paramref name="disk"/>.</summary>
    public static async ValueTask<PartitionTable> ScanAsync(
        BlockNode disk, CancellationToken cancellationToken = default)
    {
        if (disk.Length < MbrLayout.RecordSize)
        {
            return PartitionTable.Empty;
        }

        using BufferLease record = BufferPool.Shared.Rent(MbrLayout.RecordSize);
        await disk.ReadAsync(0, record.Memory, cancellationToken).ConfigureAwait(false);
        var problems = new List<string>();
        bool isProtective = HasProtectiveEntry(record.Span);
        if (isProtective)
        {
            PartitionTable? gpt = await GptReader.ReadAsync(disk, problems, cancellationToken).ConfigureAwait(false);
            if (gpt is not null)
            {
                return gpt with { Warnings = [.. problems, .. gpt.Warnings] };
            }

            problems.Add("the first sector announces a GPT, but neither copy of it can be read");
        }

        PartitionTable? mbr = await MbrReader.ReadAsync(disk, record.Memory, cancellationToken).ConfigureAwait(false);
        return mbr is null
            ? PartitionTable.Empty with { Warnings = problems }
            : mbr with { Warnings = [.. problems, .. mbr.Warnings] };
    }

    private static bool HasProtectiveEntry(ReadOnlySpan<byte> record)
    {
        var entries = new MbrLayout.Entry[MbrLayout.EntryCount];
        return MbrLayout.TryReadEntries(record, entries)
            && Array.Exists(entries, e => e.Type == MbrLayout.TypeGptProtective);
    }
}
