using System.Buffers.Binary;
using System.Text;
using ImageMount.Fuse.Tests.Wire;
using ImageMount.Mounting.Fuse;
using ImageMount.Mounting.Tests.Partitions;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Tests.Host;

/// <summary>What a kernel would say and hear: literal requests through the protocol server, no kernel.</summary>
public sealed class WireTests
{
    private const uint Lookup = 1;
    private const uint GetAttr = 3;
    private const uint Open = 14;
    private const uint Read = 15;
    private const uint Write = 16;
    private const uint Statfs = 17;
    private const uint Release = 18;
    private const uint Fsync = 20;
    private const uint OpenDir = 27;
    private const uint ReadDir = 28;
    private const uint ReadDirPlus = 44;
    private const uint Lseek = 46;

    [Fact]
    public async Task A_disk_is_looked_up_opened_written_synced_and_read_back_through_its_partition()
    {
        (WireHarness wire, DiskBuilder disk) = await MakeAsync();
        using WireHarness owned = wire;
        ulong inode = U64(Send(wire, Lookup, 1, "'disk.raw' 0"), 16);
        byte[] attributes = Send(wire, GetAttr, inode, "4:0 4:0 8:0");
        Assert.Equal(100UL * 512, U64(attributes, 16 + 16 + 8));

        ulong handle = U64(Send(wire, Open, inode, "4:2 4:0"), 16);
        byte[] written = Send(
            wire, Write, inode, $"8:{handle} 8:{10 * 512 + 3} 4:5 4:0 8:0 4:2 4:0 'hello'");
        Assert.Equal(5, BinaryPrimitives.ReadInt32LittleEndian(written.AsSpan(16)));
        Assert.Equal("hello", Encoding.ASCII.GetString(disk.Bytes, 10 * 512 + 3, 5));
        Assert.Equal(16, Send(wire, Fsync, inode, $"8:{handle} 4:0 4:0").Length);

        ulong p1 = U64(Send(wire, Lookup, 1, "'p1' 0"), 16);
        ulong second = U64(Send(wire, Open, p1, "4:0 4:0"), 16);
        byte[] read = Send(wire, Read, p1, $"8:{second} 8:3 4:5 4:0 8:0 4:0 4:0");
        Assert.Equal("hello", Encoding.ASCII.GetString(read, 16, read.Length - 16));
        byte[] tail = Send(wire, Read, p1, $"8:{second} 8:{50 * 512 - 2} 4:4096 4:0 8:0 4:0 4:0");
        Assert.Equal(16 + 2, tail.Length);
        Assert.Equal(16, Send(wire, Release, p1, $"8:{second} 4:0 4:0 8:0").Length);
        Assert.Empty(wire.Warnings);
    }

    [Theory]
    [InlineData(ReadDir)]
    [InlineData(ReadDirPlus)]
    public async Task A_directory_is_listed_in_as_many_answers_as_it_takes(uint opcode)
    {
        (WireHarness wire, _) = await MakeAsync();
        using WireHarness owned = wire;
        ulong handle = U64(Send(wire, OpenDir, 1, "4:0 4:0"), 16);
        var names = new List<string>();
        ulong offset = 0;
        int entryHead = opcode == ReadDirPlus ? 128 : 0;
        while (true)
        {
            // Room for one entry at a time.
            byte[] reply = Send(wire, opcode, 1, $"8:{handle} 8:{offset} 4:{entryHead + 40} 4:0 8:0 4:0 4:0");
            if (reply.Length == 16)
            {
                break;
            }

            ReadOnlySpan<byte> entry = reply.AsSpan(16 + entryHead);
            offset = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
            int length = BinaryPrimitives.ReadInt32LittleEndian(entry[16..]);
            names.Add(Encoding.UTF8.GetString(entry.Slice(24, length)));
            Assert.True(names.Count < 20, "the listing never ends");
        }

        Assert.Equal([".", "..", "disk.raw", "p1", ".imgmount"], names);
    }

    [Theory]
    [InlineData(Lookup, 1UL, "'nothing' 0", Errno.ENOENT)]
    [InlineData(Lookup, 2UL, "'p1' 0", Errno.ENOTDIR)]
    [InlineData(GetAttr, 999UL, "4:0 4:0 8:0", Errno.ENOENT)]
    [InlineData(Open, 1UL, "4:0 4:0", Errno.EISDIR)]
    [InlineData(Open, 999UL, "4:0 4:0", Errno.ENOENT)]
    [InlineData(Open, 5UL, "4:2 4:0", Errno.EROFS)] // a report, for writing
    [InlineData(ReadDir, 2UL, "8:0 8:0 4:4096 4:0 8:0 4:0 4:0", Errno.ENOTDIR)]
    [InlineData(Lseek, 2UL, "8:0 8:51200 4:3 4:0", Errno.ENXIO)]
    [InlineData(Lseek, 5UL, "8:0 8:0 4:3 4:0", Errno.EINVAL)]
    [InlineData(9u, 1UL, "4:0x1ed 4:0 'd' 0", Errno.EPERM)] // MKDIR
    [InlineData(10u, 1UL, "'p1' 0", Errno.EPERM)] // UNLINK
    public async Task What_cannot_be_has_its_errno(uint opcode, ulong inode, string body, int errno)
    {
        (WireHarness wire, _) = await MakeAsync();
        using WireHarness owned = wire;
        Assert.Equal(-errno, WireHarness.Error(Send(wire, opcode, inode, body)));
    }

    [Fact]
    public async Task A_report_is_read_to_its_end_and_statfs_answers()
    {
        (WireHarness wire, _) = await MakeAsync();
        using WireHarness owned = wire;
        ulong directory = U64(Send(wire, Lookup, 1, "'.imgmount' 0"), 16);
        ulong inode = U64(Send(wire, Lookup, directory, "'x.json' 0"), 16);
        byte[] open = Send(wire, Open, inode, "4:0 4:0");
        Assert.Equal(1, open[24]); // direct: its size is not known before it is read
        byte[] read = Send(wire, Read, inode, $"8:{U64(open, 16)} 8:1 4:4096 4:0 8:0 4:0 4:0");
        Assert.Equal("ext", Encoding.ASCII.GetString(read, 16, read.Length - 16));
        Assert.Equal(13UL, U64(Send(wire, Statfs, 1, ""), 16)); // 51200 bytes in blocks of 4096
    }

    private static async Task<(WireHarness, DiskBuilder)> MakeAsync()
    {
        DiskBuilder disk = new DiskBuilder(100).Entry(0, 0, 0x83, 10, 50).Sign();
        MountTree tree = await MountTree.CreateAsync(disk.Node, new MountTreeOptions
        {
            Reports = [new("x.json", Text)],
        });
        return (new WireHarness(new DiskFileSystem(tree, new FuseMountOptions())), disk);
    }

    private static async IAsyncEnumerable<ReadOnlyMemory<byte>> Text()
    {
        await Task.Yield();
        yield return "te"u8.ToArray();
        yield return "xt"u8.ToArray();
    }

    private static byte[] Send(WireHarness wire, uint opcode, ulong inode, string body) =>
        wire.Send(opcode, inode, WireBytes.Parse(body)) ?? wire.Await(wire.LastUnique);

    private static ulong U64(byte[] reply, int at)
    {
        Assert.Equal(0, WireHarness.Error(reply));
        return BinaryPrimitives.ReadUInt64LittleEndian(reply.AsSpan(at));
    }
}
