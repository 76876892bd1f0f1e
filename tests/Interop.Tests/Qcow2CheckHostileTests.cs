using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Qcow2;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Images made to keep a check busy for ever, or to fill the memory: it ends, with a verdict.</summary>
public sealed class Qcow2CheckHostileTests
{
    private const int ClusterBits = 16;
    private const int Cluster = 1 << ClusterBits;

    // A watchdog against hangs: what is tested here would take hours if it were not bounded.
    private static readonly TimeSpan s_watchdog = TimeSpan.FromMinutes(1);

    /// <summary>4 million L1 entries that all name one full L2 table: 2^35 references if each were followed.</summary>
    [Fact]
    public async Task L1_table_of_one_L2_table_a_million_times_is_checked_in_one_pass()
    {
        using var scratch = new Scratch();
        const int Entries = 4 << 20;
        const long L2 = 4L * Cluster + Entries * 8L;
        string path = Make(scratch, Entries, L2 + Cluster, image =>
        {
            byte[] l1 = new byte[Entries * 8];
            for (int i = 0; i < Entries; i++)
            {
                BinaryPrimitives.WriteInt64BigEndian(l1.AsSpan(i * 8), L2);
            }

            image.Write(l1, 4L * Cluster);
            byte[] l2 = new byte[Cluster];
            for (int i = 0; i < Cluster / 8; i++)
            {
                BinaryPrimitives.WriteInt64BigEndian(l2.AsSpan(i * 8), (long)Cluster * (i % 3));
            }

            image.Write(l2, L2);
        });
        CheckReport report = await CheckAsync(path);
        Assert.True(report.Corruptions > 0);
        Assert.Equal(CheckReport.MaxProblems, report.Problems.Count);
    }

    /// <summary>Refcount table and L1 table name blocks and tables in the holes of a file of many terabytes.</summary>
    [Fact]
    public async Task Terabytes_of_holes_named_as_tables_cost_no_reading()
    {
        using var scratch = new Scratch();
        const int Entries = 1 << 20;
        const long Holes = 1L << 40;
        string path = Make(scratch, Entries, Holes + Entries * (2L << ClusterBits), image =>
        {
            byte[] l1 = new byte[Entries * 8];
            for (int i = 0; i < Entries; i++)
            {
                BinaryPrimitives.WriteInt64BigEndian(l1.AsSpan(i * 8), Holes + i * (2L << ClusterBits));
            }

            image.Write(l1, 4L * Cluster);
        });
        CheckReport report = await CheckAsync(path);
        Assert.True(report.Corruptions >= Entries, $"{report.Corruptions}: none of the L2 tables has a refcount");
    }

    /// <summary>65,536 snapshots that all name one L1 table of 32 MiB: 2 TiB of reading if each were followed.</summary>
    [Fact]
    public async Task Snapshots_that_share_one_L1_table_are_reported_and_not_followed()
    {
        using var scratch = new Scratch();
        const int Snapshots = 65536;
        const int Entries = 4 << 20;
        const int EntrySize = 64;
        const long Table = 4L * Cluster + Entries * 8L;
        string path = Make(scratch, Entries, Table + Snapshots * (long)EntrySize + Cluster, image =>
        {
            byte[] table = new byte[Snapshots * EntrySize];
            for (int i = 0; i < Snapshots; i++)
            {
                Span<byte> entry = table.AsSpan(i * EntrySize);
                BinaryPrimitives.WriteInt64BigEndian(entry, 4L * Cluster);
                BinaryPrimitives.WriteInt32BigEndian(entry[8..], Entries);
                BinaryPrimitives.WriteInt32BigEndian(entry[36..], 24);
            }

            image.Write(table, Table);
            byte[] header = new byte[12];
            BinaryPrimitives.WriteInt32BigEndian(header, Snapshots);
            BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(4), Table);
            image.Write(header, 60);
        });
        CheckReport report = await CheckAsync(path);
        Assert.True(report.Corruptions > 0);
    }

    private static async Task<CheckReport> CheckAsync(string path)
    {
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=file,filename={path}");
        Qcow2Header header = await Qcow2Header.ReadAsync(graph.Root, CancellationToken.None);
        Task<CheckReport> check = Task.Run(
            () => Qcow2Check.RunAsync(header, graph.Root, CancellationToken.None).AsTask());
        return await check.WaitAsync(s_watchdog);
    }

    /// <summary>A sparse version 3 image with an L1 table at cluster 4, a refcount table at 1, a block at 2.</summary>
    private static string Make(Scratch scratch, int l1Entries, long fileLength, Action<Image> fill)
    {
        string path = scratch["hostile.qcow2"];
        byte[] header = new byte[104];
        void U32(int at, uint value) => BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(at), value);
        void U64(int at, long value) => BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(at), value);
        U32(0, Qcow2Layout.Magic);
        U32(4, 3);
        U32(20, ClusterBits);
        U64(24, 1L << 30);
        U32(36, (uint)l1Entries);
        U64(40, 4L * Cluster);
        U64(48, Cluster);
        U32(56, 1);
        U32(96, 4);
        U32(100, 104);
        using var handle = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite);
        RandomAccess.SetLength(handle, fileLength);
        var image = new Image(handle);
        image.Write(header, 0);
        byte[] entry = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(entry, 2L * Cluster);
        image.Write(entry, Cluster);
        fill(image);
        return path;
    }

    private sealed class Image(Microsoft.Win32.SafeHandles.SafeFileHandle handle)
    {
        public void Write(byte[] bytes, long offset) => RandomAccess.Write(handle, bytes, offset);
    }
}
