using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Mounting.Partitions;

/// <summary>
/// Reads a DOS partition table and the chains of logical partitions in its extended ones. The extended partitions
/// themselves are containers: Linux gives them a number and nobody can use them, so they get a number and no window.
/// </summary>
internal static class MbrReader
{
    /// <summary>Most extended boot records that are followed, all chains together.</summary>
    public const int MaxChain = 256;

    private const int SectorSize = 512;
    private const int FirstLogical = 5;

    /// <summary>The table of <paramref name="record"/> (512 bytes), or null when there is none.</summary>
    public static async ValueTask<PartitionTable?> ReadAsync(
        BlockNode disk, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        var entries = new MbrLayout.Entry[MbrLayout.EntryCount];
        if (!MbrLayout.TryReadEntries(record.Span, entries) || !Array.TrueForAll(entries, e => e.HasValidStatus))
        {
            return null;
        }

        var list = new PartitionListBuilder(disk.Length);
        for (int i = 0; i < entries.Length; i++)
        {
            // A protective entry that is looked at here is one whose GPT could not be read.
            if (entries[i].IsUsed && !entries[i].IsExtended && entries[i].Type != MbrLayout.TypeGptProtective)
            {
                Add(list, i + 1, entries[i].FirstSector, entries[i], isLogical: false);
            }
        }

        if (list.Count == 0 && MbrLayout.LooksLikeFileSystem(record.Span))
        {
            return null;
        }

        var chain = new Chain();
        foreach (MbrLayout.Entry entry in entries)
        {
            if (entry.IsUsed && entry.IsExtended)
            {
                await ReadChainAsync(disk, entry, list, chain, cancellationToken).ConfigureAwait(false);
            }
        }

        return list.Build(PartitionScheme.Mbr, SectorSize);
    }

    private static void Add(
        PartitionListBuilder list, int number, ulong firstSector, MbrLayout.Entry entry, bool isLogical) =>
        list.Add(
            number, firstSector, entry.SectorCount, SectorSize, PartitionTypes.Mbr(entry.Type), "",
            entry.Status == MbrLayout.StatusBootable, isLogical);

    /// <summary>
    /// Follows one chain. Each record has a partition (relative to the record) and a link to the next record (relative
    /// to the start of the extended partition).
    /// </summary>
    private static async ValueTask ReadChainAsync(
        BlockNode disk, MbrLayout.Entry extended, PartitionListBuilder list, Chain chain,
        CancellationToken cancellationToken)
    {
        ulong start = extended.FirstSector;
        ulong diskSectors = (ulong)(disk.Length / SectorSize);
        ulong at = start;
        using BufferLease buffer = BufferPool.Shared.Rent(MbrLayout.RecordSize);
        var entries = new MbrLayout.Entry[MbrLayout.EntryCount];
        while (true)
        {
            if (at >= diskSectors)
            {
                list.Warn(At("an extended boot record lies past the end of the disk", at));
                return;
            }

            if (chain.Visited.Count >= MaxChain)
            {
                list.Warn($"the chains of logical partitions have more than {MaxChain} records; the rest is left out");
                return;
            }

            if (!chain.Visited.Add(at))
            {
                list.Warn(At("the chain of logical partitions returns to an earlier record", at));
                return;
            }

            await disk.ReadAsync((long)at * SectorSize, buffer.Memory, cancellationToken).ConfigureAwait(false);
            if (!MbrLayout.TryReadEntries(buffer.Span, entries))
            {
                list.Warn(At("an extended boot record has no signature (expected 0xaa55)", at));
                return;
            }

            foreach (MbrLayout.Entry entry in entries)
            {
                if (entry.IsUsed && !entry.IsExtended)
                {
                    Add(list, chain.NextNumber++, at + entry.FirstSector, entry, isLogical: true);
                }
            }

            int link = Array.FindIndex(entries, e => e.IsUsed && e.IsExtended);
            if (link < 0)
            {
                return;
            }

            at = start + entries[link].FirstSector;
        }
    }

    private static string At(string what, ulong sector) =>
        string.Create(CultureInfo.InvariantCulture, $"{what}: sector {sector}");

    private sealed class Chain
    {
        public HashSet<ulong> Visited { get; } = [];

        public int NextNumber { get; set; } = FirstLogical;
    }
}
