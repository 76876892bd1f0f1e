using ImageMount.Mounting.Partitions;

namespace ImageMount.Mounting.Tests.Partitions;

public sealed class MbrTests
{
    [Fact]
    public async Task Primary_entries_are_read_from_literal_bytes()
    {
        PartitionTable table = await new DiskBuilder(4096)
            .Hex(446, "80 202100 83 AA2820 00080000 00040000")
            .Hex(478, "00 000000 0C 000000 000C0000 00020000")
            .Hex(510, "55AA")
            .ScanAsync();

        Assert.Equal(PartitionScheme.Mbr, table.Scheme);
        Assert.Empty(table.Warnings);
        Assert.Collection(
            table.Partitions,
            p => Assert.Equal(new Partition(1, 2048 * 512, 1024 * 512, "0x83", "Linux", "", true, false), p),
            p => Assert.Equal(new Partition(3, 3072 * 512, 512 * 512, "0x0c", "FAT32", "", false, false), p));
    }

    [Fact]
    public async Task Logical_partitions_are_numbered_from_five_whatever_the_primary_ones_are()
    {
        // Extended from 100; records at 100, 140, 180; partitions ten sectors after their record.
        PartitionTable table = await new DiskBuilder(400)
            .Entry(0, 0, 0x83, 10, 50).Entry(0, 1, 0x05, 100, 200).Sign()
            .Entry(100, 0, 0x83, 10, 20).Entry(100, 1, 0x05, 40, 40).Sign(100)
            .Entry(140, 0, 0x82, 10, 20).Entry(140, 1, 0x05, 80, 40).Sign(140)
            .Entry(180, 0, 0x07, 10, 20).Sign(180)
            .ScanAsync();

        Assert.Empty(table.Warnings);
        Assert.Equal(
            [(1, 10L, 50L, false), (5, 110, 20, true), (6, 150, 20, true), (7, 190, 20, true)],
            table.Partitions.Select(p => (p.Number, p.Offset / 512, p.Size / 512, p.IsLogical)));
    }

    [Theory]
    [InlineData(0u, "returns to an earlier record")]
    [InlineData(40u, "returns to an earlier record")]
    [InlineData(5000u, "past the end")]
    [InlineData(0xFFFFFFF0u, "past the end")]
    [InlineData(70u, "has no signature")]
    public async Task A_chain_that_leads_nowhere_ends_with_a_warning_and_keeps_what_came_before(
        uint link, string warning)
    {
        PartitionTable table = await new DiskBuilder(400)
            .Entry(0, 1, 0x0F, 100, 200).Sign()
            .Entry(100, 0, 0x83, 10, 20).Entry(100, 1, 0x05, 40, 40).Sign(100)
            .Entry(140, 0, 0x83, 10, 20).Entry(140, 1, 0x05, link, 40).Sign(140)
            .ScanAsync();

        Assert.Equal([5, 6], table.Partitions.Select(p => p.Number));
        Assert.Contains(warning, Assert.Single(table.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_endless_chain_is_cut_at_the_limit()
    {
        // 300 records, each in the sector after the last; every partition is the sector of its own record.
        var disk = new DiskBuilder(1000).Entry(0, 0, 0x05, 1, 900).Sign();
        for (int i = 1; i <= 300; i++)
        {
            disk.Entry(i, 0, 0x83, 500, 1).Entry(i, 1, 0x05, (uint)i, 900).Sign(i);
        }

        PartitionTable table = await disk.ScanAsync();

        Assert.Equal(256, table.Partitions.Count);
        Assert.Contains(table.Warnings, w => w.Contains("more than 256 records", StringComparison.Ordinal));
    }

    [Fact]
    public async Task What_leaves_the_disk_is_clipped_or_left_out_and_told()
    {
        PartitionTable table = await new DiskBuilder(100)
            .Entry(0, 0, 0x83, 10, 0xFFFFFFFF).Entry(0, 1, 0x83, 100, 10).Entry(0, 2, 0x83, 0xFFFFFFFF, 0xFFFFFFFF)
            .Entry(0, 3, 0x83, 99, 1).Sign()
            .ScanAsync();

        Assert.Equal([(1, 90L), (4, 1L)], table.Partitions.Select(p => (p.Number, p.Size / 512)));
        Assert.Equal(4, table.Warnings.Count);
        Assert.Contains(table.Warnings, w => w.Contains("partition 1 ends", StringComparison.Ordinal));
        Assert.Contains(table.Warnings, w => w.Contains("partition 2 begins", StringComparison.Ordinal));
        Assert.Contains(table.Warnings, w => w.Contains("partition 3 begins", StringComparison.Ordinal));
        Assert.Contains("partitions 1 and 4 overlap", table.Warnings);
    }

    [Theory]
    [InlineData(new byte[] { 0x55, 0xAB }, 0)]
    [InlineData(new byte[] { 0x55, 0xAA }, 0x7F)]
    public async Task No_signature_or_a_strange_status_byte_is_no_table(byte[] signature, byte status)
    {
        DiskBuilder disk = new DiskBuilder(100).Entry(0, 0, 0x83, 10, 10, status);
        signature.CopyTo(disk.Bytes, 510);
        PartitionTable table = await disk.ScanAsync();
        Assert.Equal(PartitionScheme.None, table.Scheme);
        Assert.Empty(table.Partitions);
    }

    [Fact]
    public async Task A_fat_boot_sector_without_a_usable_entry_is_one_file_system()
    {
        PartitionTable table = await new DiskBuilder(2880)
            .Hex(0, "EB3C90 4D5344 4F53352E30 0002 01 0100 02 E000 400B F0 0900")
            .Sign()
            .ScanAsync();
        Assert.Equal(PartitionScheme.None, table.Scheme);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(511)]
    public async Task A_disk_too_small_for_a_table_has_none(int length)
    {
        var node = new BlockNode("disk", "memory", new MemoryDevice(length));
        Assert.Same(PartitionTable.Empty, await PartitionScanner.ScanAsync(node));
    }

    [Fact]
    public async Task A_failing_read_is_a_block_exception()
    {
        var device = new MemoryDevice(4096)
        {
            Before = _ => throw new BlockException(BlockErrorKind.IoError, "the disk is gone"),
        };
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await PartitionScanner.ScanAsync(new BlockNode("disk", "memory", device)));
        Assert.Equal(BlockErrorKind.IoError, e.Kind);
    }
}
