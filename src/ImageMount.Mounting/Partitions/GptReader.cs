using System.Globalization;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Mounting.Partitions;

/// <summary>
/// Reads a GUID partition table: the header in the second sector, or when that is damaged the copy in the last one, for
/// sectors of 512 and of 4096 bytes. Header and entries must have the right checksums to be believed.
/// </summary>
internal static class GptReader
{
    private static readonly int[] SectorSizes = [512, 4096];

    /// <summary>
    /// The table, or null with <paramref name="problems"/> filled in when neither copy can be believed.
    /// </summary>
    public static async ValueTask<PartitionTable?> ReadAsync(
        BlockNode disk, List<string> problems, CancellationToken cancellationToken)
    {
        foreach (int sectorSize in SectorSizes)
        {
            PartitionTable? table = await ReadCopyAsync(disk, sectorSize, 1, null, problems, cancellationToken)
                .ConfigureAwait(false);
            if (table is not null)
            {
                return table;
            }
        }

        foreach (int sectorSize in SectorSizes)
        {
            long last = disk.Length / sectorSize - 1;
            const string Note = "the primary GPT is damaged; its backup at the end of the disk is used";
            PartitionTable? table = await ReadCopyAsync(disk, sectorSize, last, Note, problems, cancellationToken)
                .ConfigureAwait(false);
            if (table is not null)
            {
                return table;
            }
        }

        return null;
    }

    private static async ValueTask<PartitionTable?> ReadCopyAsync(
        BlockNode disk, int sectorSize, long lba, string? note, List<string> problems,
        CancellationToken cancellationToken)
    {
        long diskSectors = disk.Length / sectorSize;
        if (lba < 1 || lba >= diskSectors)
        {
            return null;
        }

        using BufferLease sector = BufferPool.Shared.Rent(sectorSize);
        await disk.ReadAsync(lba * sectorSize, sector.Memory, cancellationToken).ConfigureAwait(false);
        if (!TryReadHeader(sector.Span, (ulong)lba, out GptLayout.Header header, out string? problem))
        {
            if (problem is not null)
            {
                problems.Add(string.Create(CultureInfo.InvariantCulture, $"GPT header at sector {lba}: {problem}"));
            }

            return null;
        }

        uint entrySize = header.EntrySize;
        long tableSize = (long)entrySize * header.EntryCount;
        ulong first = header.EntriesLba;
        if (first >= (ulong)diskSectors || tableSize > disk.Length - (long)first * sectorSize)
        {
            problems.Add(string.Create(
                CultureInfo.InvariantCulture, $"GPT entries at sector {first} lie past the end of the disk"));
            return null;
        }

        using BufferLease entries = BufferPool.Shared.Rent((int)tableSize);
        await disk.ReadAsync((long)first * sectorSize, entries.Memory, cancellationToken).ConfigureAwait(false);
        uint crc = Crc32.Compute(entries.Span);
        if (crc != header.EntriesCrc32)
        {
            problems.Add(string.Create(
                CultureInfo.InvariantCulture,
                $"GPT entries at sector {first}: {WrongChecksum(crc, header.EntriesCrc32)}"));
            return null;
        }

        var list = new PartitionListBuilder(disk.Length);
        if (note is not null)
        {
            list.Warn(note);
        }

        for (int i = 0; i < header.EntryCount; i++)
        {
            AddEntry(list, i + 1, entries.Span.Slice(i * (int)entrySize, (int)entrySize), sectorSize);
        }

        return list.Build(PartitionScheme.Gpt, sectorSize);
    }

    /// <summary>False with no problem: there is no header at all.</summary>
    private static bool TryReadHeader(
        Span<byte> sector, ulong lba, out GptLayout.Header header, out string? problem)
    {
        problem = null;
        if (!new SpanReader(sector).TryRead(out header) || header.Signature != GptLayout.Signature)
        {
            return false;
        }

        problem = Judge(sector, lba, header);
        return problem is null;
    }

    private static string? Judge(Span<byte> sector, ulong lba, in GptLayout.Header header)
    {
        uint size = header.HeaderSize;
        if (size < GptLayout.HeaderSize || size > sector.Length)
        {
            return $"wrong header size (found {size}, expected {GptLayout.HeaderSize}…{sector.Length})";
        }

        // The checksum is computed with its own field zeroed.
        sector.Slice(GptLayout.HeaderCrcOffset, sizeof(uint)).Clear();
        uint crc = Crc32.Compute(sector[..(int)size]);
        if (crc != header.HeaderCrc32)
        {
            return WrongChecksum(crc, header.HeaderCrc32);
        }

        if (header.MyLba != lba)
        {
            return $"it says that it lies at sector {header.MyLba}";
        }

        uint entrySize = header.EntrySize;
        if (entrySize < GptLayout.EntrySize || (entrySize & (entrySize - 1)) != 0)
        {
            return $"wrong entry size (found {entrySize}, expected 128 times a power of two)";
        }

        long tableSize = (long)entrySize * header.EntryCount;
        return header.EntryCount == 0 || tableSize > GptLayout.MaxTableSize
            ? $"{header.EntryCount} entries of {entrySize} bytes "
                + $"(expected 1 or more, together at most {GptLayout.MaxTableSize} bytes)"
            : null;
    }

    private static string WrongChecksum(uint found, uint expected) =>
        string.Create(CultureInfo.InvariantCulture, $"wrong checksum (found 0x{found:x8}, expected 0x{expected:x8})");

    private static void AddEntry(PartitionListBuilder list, int number, ReadOnlySpan<byte> bytes, int sectorSize)
    {
        if (!new SpanReader(bytes).TryRead(out GptLayout.Entry entry) || entry.Type == Guid.Empty)
        {
            return;
        }

        ulong first = entry.FirstLba;
        ulong last = entry.LastLba;
        if (last < first)
        {
            list.Warn(string.Create(
                CultureInfo.InvariantCulture,
                $"partition {number} ends (sector {last}) before it begins ({first}): left out"));
            return;
        }

        // last - first + 1 can only overflow for a partition of 2^64 sectors, which is clipped all the same.
        ulong count = last - first == ulong.MaxValue ? ulong.MaxValue : last - first + 1;
        list.Add(
            number, first, count, sectorSize, PartitionTypes.Gpt(entry.Type), Name(bytes),
            (entry.Attributes & GptLayout.AttributeLegacyBootable) != 0, isLogical: false);
    }

    private static string Name(ReadOnlySpan<byte> entry)
    {
        string name = Encoding.Unicode.GetString(entry.Slice(GptLayout.NameOffset, GptLayout.NameLength));
        int end = name.IndexOf('\0', StringComparison.Ordinal);
        return end < 0 ? name : name[..end];
    }
}
