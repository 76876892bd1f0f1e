using System.Buffers.Binary;
using System.Text;
using ImageMount.Mounting.Partitions;

namespace ImageMount.Mounting.Tests.Partitions;

public sealed class GptTests
{
    private const int Sectors = 512;
    private static readonly Guid LinuxData = new("0fc63daf-8483-4772-8e79-3d69d8477de4");

    [Theory]
    [InlineData(512, 128, 128)]
    [InlineData(4096, 128, 128)]
    [InlineData(512, 4, 256)]
    [InlineData(4096, 16, 4096)]
    public async Task Entries_are_read_for_both_sector_sizes_and_any_entry_size(
        int sectorSize, int count, int entrySize)
    {
        DiskBuilder disk = Make(sectorSize, count, entrySize);
        PartitionTable table = await disk.ScanAsync();

        Assert.Equal(PartitionScheme.Gpt, table.Scheme);
        Assert.Equal(sectorSize, table.SectorSize);
        Assert.Empty(table.Warnings);
        Assert.Equal(
            [
                new Partition(
                    1, 100L * sectorSize, 20L * sectorSize, LinuxData.ToString(), "Linux", "größe", true, false),
                new Partition(3, 200L * sectorSize, 1L * sectorSize, LinuxData.ToString(), "Linux", "p3", false, false),
            ],
            table.Partitions);
    }

    [Theory]
    [InlineData(512 + 16, "wrong checksum")] // the header's checksum
    [InlineData(512 + 72, "wrong checksum")] // any field of it
    [InlineData(1024 + 5, "wrong checksum")] // an entry
    public async Task A_damaged_primary_table_falls_back_to_the_backup(int damagedByte, string problem)
    {
        DiskBuilder disk = Make(512, 128, 128);
        disk.Bytes[damagedByte] ^= 0x40;
        PartitionTable table = await disk.ScanAsync();

        Assert.Equal(PartitionScheme.Gpt, table.Scheme);
        Assert.Equal([1, 3], table.Partitions.Select(p => p.Number));
        Assert.Contains(table.Warnings, w => w.Contains(problem, StringComparison.Ordinal));
        Assert.Contains(table.Warnings, w => w.Contains("backup", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_primary_table_that_was_wiped_falls_back_too()
    {
        DiskBuilder disk = Make(4096, 128, 128);
        disk.Bytes.AsSpan(4096, 4096).Clear();
        PartitionTable table = await disk.ScanAsync();
        Assert.Equal((PartitionScheme.Gpt, 4096, 2), (table.Scheme, table.SectorSize, table.Partitions.Count));
    }

    [Fact]
    public async Task With_both_tables_gone_there_are_no_partitions_and_a_warning()
    {
        DiskBuilder disk = Make(512, 128, 128);
        disk.Bytes.AsSpan(512, 512).Clear();
        disk.Bytes.AsSpan((Sectors - 1) * 512, 512).Clear();
        PartitionTable table = await disk.ScanAsync();
        Assert.Empty(table.Partitions);
        Assert.Contains(table.Warnings, w => w.Contains("neither copy", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Without_a_protective_entry_a_gpt_is_left_over_and_does_not_count()
    {
        DiskBuilder disk = Make(512, 128, 128);
        disk.Entry(0, 0, 0x83, 50, 10);
        PartitionTable table = await disk.ScanAsync();
        Assert.Equal(PartitionScheme.Mbr, table.Scheme);
        Assert.Equal([1], table.Partitions.Select(p => p.Number));
    }

    [Theory]
    [InlineData(12, 0u)] // header size
    [InlineData(12, 513u)]
    [InlineData(12, 0xFFFFFFFFu)]
    [InlineData(24, 7u)] // where it says it lies
    [InlineData(72, 5000u)] // where the entries lie
    [InlineData(72, 0xFFFFFFFFu)]
    [InlineData(76, 0xFFFFFFFFu)] // above it, so that the sector number has 64 bits
    [InlineData(80, 0u)] // number of entries
    [InlineData(80, 0xFFFFFFFFu)]
    [InlineData(84, 0u)] // size of an entry
    [InlineData(84, 1u)]
    [InlineData(84, 192u)]
    [InlineData(84, 0x80000000u)]
    [InlineData(84, 0xFFFFFFFFu)]
    public async Task A_header_with_an_impossible_field_but_a_right_checksum_is_refused(int field, uint value)
    {
        DiskBuilder disk = Make(512, 128, 128);
        foreach (int sector in (int[])[1, Sectors - 1])
        {
            Span<byte> header = disk.Bytes.AsSpan(sector * 512, 512);
            BinaryPrimitives.WriteUInt32LittleEndian(header[field..], value);
            Seal(header, header.Length);
        }

        PartitionTable table = await disk.ScanAsync();
        Assert.Empty(table.Partitions);
        Assert.NotEmpty(table.Warnings);
    }

    [Fact]
    public async Task Entries_that_end_before_they_begin_or_leave_the_disk_are_told_and_left_out_or_clipped()
    {
        DiskBuilder disk = Make(512, 128, 128, entries =>
        {
            WriteEntry(entries, 1, 128, 50, 49, "");
            WriteEntry(entries, 2, 128, 0, ulong.MaxValue, "all");
            WriteEntry(entries, 3, 128, ulong.MaxValue, ulong.MaxValue, "");
            WriteEntry(entries, 4, 128, 500, 5000, "clipped");
        });
        PartitionTable table = await disk.ScanAsync();

        Assert.Equal([(1, 20L), (3, (long)Sectors), (5, 12L)], table.Partitions.Select(p => (p.Number, p.Size / 512)));
        Assert.Contains(table.Warnings, w => w.Contains("partition 2 ends (sector 49)", StringComparison.Ordinal));
        Assert.Contains(table.Warnings, w => w.Contains("partition 4 begins", StringComparison.Ordinal));
        Assert.Contains(table.Warnings, w => w.Contains("overlap", StringComparison.Ordinal));
    }

    /// <summary>A disk with both tables; partitions 1 and 3.</summary>
    internal static DiskBuilder Make(int sectorSize, int count, int entrySize, Action<byte[]>? change = null)
    {
        var disk = new DiskBuilder(Sectors, sectorSize);
        disk.Entry(0, 0, 0xEE, 1, Sectors - 1).Sign();
        var entries = new byte[count * entrySize];
        WriteEntry(entries, 0, entrySize, 100, 119, "größe", attributes: 4);
        WriteEntry(entries, 2, entrySize, 200, 200, "p3");
        change?.Invoke(entries);
        int entrySectors = (entries.Length + sectorSize - 1) / sectorSize;
        Write(disk, 1, 2, entries, count, entrySize);
        Write(disk, Sectors - 1, Sectors - 1 - entrySectors, entries, count, entrySize);
        return disk;
    }

    private static void WriteEntry(
        byte[] entries, int index, int entrySize, ulong first, ulong last, string name, ulong attributes = 0)
    {
        Span<byte> entry = entries.AsSpan(index * entrySize, entrySize);
        LinuxData.TryWriteBytes(entry);
        Guid.Parse("11111111-2222-3333-4444-555555555555").TryWriteBytes(entry[16..]);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[32..], first);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[40..], last);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[48..], attributes);
        Encoding.Unicode.GetBytes(name, entry[56..]);
    }

    private static void Write(DiskBuilder disk, int at, int entriesAt, byte[] entries, int count, int entrySize)
    {
        entries.CopyTo(disk.Bytes, entriesAt * disk.SectorSize);
        Span<byte> header = disk.Bytes.AsSpan(at * disk.SectorSize, disk.SectorSize);
        "EFI PART"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], 0x10000);
        BinaryPrimitives.WriteUInt32LittleEndian(header[12..], 92);
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], (ulong)at);
        BinaryPrimitives.WriteUInt64LittleEndian(header[72..], (ulong)entriesAt);
        BinaryPrimitives.WriteUInt32LittleEndian(header[80..], (uint)count);
        BinaryPrimitives.WriteUInt32LittleEndian(header[84..], (uint)entrySize);
        BinaryPrimitives.WriteUInt32LittleEndian(header[88..], Crc(entries));
        Seal(header, disk.SectorSize);
    }

    private static void Seal(Span<byte> header, int limit)
    {
        header[16..20].Clear();
        int size = (int)Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(header[12..]), (uint)limit);
        BinaryPrimitives.WriteUInt32LittleEndian(header[16..], Crc(header[..size]));
    }

    // Bit by bit, so that it shares nothing with what it tests.
    private static uint Crc(ReadOnlySpan<byte> bytes)
    {
        uint crc = 0xFFFFFFFF;
        foreach (byte b in bytes)
        {
            crc ^= b;
            for (int i = 0; i < 8; i++)
            {
                crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
            }
        }

        return ~crc;
    }
}
