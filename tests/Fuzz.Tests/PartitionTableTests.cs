using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Fuzz.Tests.Hostile;
using ImageMount.Mounting.Partitions;
using Xunit.Abstractions;

namespace ImageMount.Fuzz.Tests;

/// <summary>Partition tables from hostile disks: always a table whose partitions lie inside the disk, never an exception.</summary>
public sealed class PartitionTableTests(ITestOutputHelper output)
{
    private const int DiskSize = 1 << 20;
    private static readonly uint[] s_crc = MakeCrcTable();

    [Fact]
    public void Mutated_partition_table_gives_partitions_inside_the_disk()
    {
        int seed = FuzzScale.Seed(2002);
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        int found = 0;
        for (int i = 0; i < FuzzScale.Of(4000); i++)
        {
            byte[] disk = random.Next(2) == 0 ? MakeMbr(random) : MakeGpt(random);
            bool hasGpt = disk.AsSpan(512).StartsWith("EFI PART"u8);
            for (int n = random.Next(0, 12); n > 0; n--)
            {
                Mutate(disk, random, hasGpt);
            }

            if (hasGpt && random.Next(4) != 0)
            {
                SealGpt(disk); // checksums that fit: or nothing behind them would ever be tried
            }

            int length = random.Next(8) == 0 ? random.Next(DiskSize) : DiskSize;
            found += Scan(disk.AsSpan(0, length).ToArray(), $"case {i} of seed {seed}");
        }

        output.WriteLine($"{found} partitions found");
        Assert.True(found > 1000, $"only {found} partitions: the mutations destroy everything");
    }

    private static int Scan(byte[] bytes, string name)
    {
        var node = new BlockNode("disk", "memory", new MemoryDisk(bytes, bytes.Length));
        PartitionTable table;
        try
        {
            table = PartitionScanner.ScanAsync(node).AsTask().GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            throw new Xunit.Sdk.XunitException($"{name}: {e.GetType().Name}", e);
        }

        foreach (Partition partition in table.Partitions)
        {
            Assert.True(partition.Offset >= 0, name);
            Assert.True(partition.Size >= 0, name);
            Assert.True(partition.Size <= bytes.Length - partition.Offset, name);
        }

        Assert.Equal(table.Partitions.Count, table.Partitions.Select(p => p.Number).Distinct().Count());
        return table.Partitions.Count;
    }

    private static byte[] MakeMbr(Random random)
    {
        byte[] disk = new byte[DiskSize];
        disk[510] = 0x55;
        disk[511] = 0xaa;
        Entry(disk, 446, 0x83, 8, 100);
        Entry(disk, 462, 0x07, 200, 50);
        Entry(disk, 478, (byte)(random.Next(2) == 0 ? 0x05 : 0x0f), 300, 1000);
        uint at = 300;
        for (uint i = 0; i < 5; i++)
        {
            int record = (int)at * 512;
            Entry(disk, record + 446, 0x83, 2, 10);
            Entry(disk, record + 462, 0x05, (i + 1) * 30, 20);
            disk[record + 510] = 0x55;
            disk[record + 511] = 0xaa;
            at = 300 + (i + 1) * 30;
        }

        return disk;
    }

    private static void Entry(byte[] disk, int at, byte type, uint first, uint count)
    {
        disk[at + 4] = type;
        BinaryPrimitives.WriteUInt32LittleEndian(disk.AsSpan(at + 8), first);
        BinaryPrimitives.WriteUInt32LittleEndian(disk.AsSpan(at + 12), count);
    }

    private static byte[] MakeGpt(Random random)
    {
        byte[] disk = new byte[DiskSize];
        disk[510] = 0x55;
        disk[511] = 0xaa;
        Entry(disk, 446, 0xee, 1, uint.MaxValue);
        ulong last = DiskSize / 512 - 1;
        Header(disk, 1, last, 2);
        Header(disk, last, 1, last - 32);
        foreach (ulong table in new[] { 2UL, last - 32 })
        {
            for (int i = 0; i < 5; i++)
            {
                Span<byte> entry = disk.AsSpan((int)table * 512 + i * 128, 128);
                random.NextBytes(entry[..32]);
                BinaryPrimitives.WriteUInt64LittleEndian(entry[32..], 64 + (ulong)i * 100);
                BinaryPrimitives.WriteUInt64LittleEndian(entry[40..], 120 + (ulong)i * 100);
                random.NextBytes(entry[48..]);
            }
        }

        SealGpt(disk);
        return disk;
    }

    private static void Header(byte[] disk, ulong lba, ulong other, ulong table)
    {
        Span<byte> header = disk.AsSpan((int)lba * 512, 512);
        "EFI PART"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], 0x10000);
        BinaryPrimitives.WriteUInt32LittleEndian(header[12..], 92);
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], lba);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], other);
        BinaryPrimitives.WriteUInt64LittleEndian(header[40..], 34);
        BinaryPrimitives.WriteUInt64LittleEndian(header[48..], (ulong)(DiskSize / 512 - 34));
        BinaryPrimitives.WriteUInt64LittleEndian(header[72..], table);
        BinaryPrimitives.WriteUInt32LittleEndian(header[80..], 128);
        BinaryPrimitives.WriteUInt32LittleEndian(header[84..], 128);
    }

    /// <summary>Makes the checksums of both headers and their tables right, as far as the fields lead anywhere.</summary>
    private static void SealGpt(byte[] disk)
    {
        foreach (int at in new[] { 512, DiskSize - 512 })
        {
            Span<byte> header = disk.AsSpan(at, 512);
            ulong table = BinaryPrimitives.ReadUInt64LittleEndian(header[72..]);
            ulong size = (ulong)BinaryPrimitives.ReadUInt32LittleEndian(header[80..])
                * BinaryPrimitives.ReadUInt32LittleEndian(header[84..]);
            if (table < DiskSize / 512 && size <= DiskSize - table * 512)
            {
                uint crc = Crc32Of(disk.AsSpan((int)table * 512, (int)size));
                BinaryPrimitives.WriteUInt32LittleEndian(header[88..], crc);
            }

            uint headerSize = Math.Min(512, BinaryPrimitives.ReadUInt32LittleEndian(header[12..]));
            header.Slice(16, 4).Clear();
            BinaryPrimitives.WriteUInt32LittleEndian(header[16..], Crc32Of(header[..(int)headerSize]));
        }
    }

    /// <summary>CRC-32 as GPT uses it: independent of the one that is tested.</summary>
    private static uint Crc32Of(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in bytes)
        {
            crc = crc >> 8 ^ s_crc[(byte)(crc ^ b)];
        }

        return ~crc;
    }

    private static uint[] MakeCrcTable()
    {
        uint[] table = new uint[256];
        for (uint i = 0; i < table.Length; i++)
        {
            table[i] = i;
            for (int bit = 0; bit < 8; bit++)
            {
                table[i] = table[i] >> 1 ^ (0xedb88320 & (0 - (table[i] & 1)));
            }
        }

        return table;
    }

    private static void Mutate(byte[] disk, Random random, bool hasGpt)
    {
        Field field;
        if (hasGpt && random.Next(3) != 0)
        {
            int header = random.Next(2) == 0 ? 512 : DiskSize - 512;
            (int offset, int width) = random.Next(10) switch
            {
                0 => (header + 12, 4),
                1 => (header + 24, 8),
                2 => (header + 72, 8),
                3 => (header + 80, 4),
                4 => (header + 84, 4),
                _ => (1024 + random.Next(5) * 128 + 8 * random.Next(4, 7), 8),
            };
            field = new Field("gpt", offset, width, false);
        }
        else
        {
            int record = random.Next(2) == 0 ? 0 : (300 + 30 * random.Next(6)) * 512;
            field = new Field("mbr", record + 446 + 16 * random.Next(4) + (random.Next(5) == 0 ? 4 : 8 + 4 * random.Next(2)), 4, false);
        }

        ulong[] values = [.. field.Extremes(disk)];
        field.Write(disk, values[random.Next(values.Length)]);
    }
}
