using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Feature bits of qcow2 headers: unknown, dirty, corrupt; sizes that are no whole sectors.</summary>
public sealed class Qcow2FeatureTests
{
    private const int Seed = 8008;
    private const int Incompatible = 72;

    [SkippableTheory]
    [InlineData(7, "frobnication")]
    [InlineData(41, "bit 41")]
    [InlineData(63, "bit 63")]
    public async Task Unknown_incompatible_feature_is_refused_by_name(int bit, string expected)
    {
        using var scratch = new Scratch();
        QemuImage image = Make(scratch, new Qcow2Variant()); // qemu leaves the names out where clusters are small
        Patch(image.Path, bytes =>
        {
            SetBits(bytes, 1UL << bit);
            NameFeature(bytes, 7, "frobnication");
        });
        foreach (OpenFlags flags in new[] { TestGraph.ReadOnly, TestGraph.Writable })
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await (await TestGraph.OpenAsync(image.Path, flags)).DisposeAsync());
            Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
            Assert.Contains(expected, e.Describe(), StringComparison.Ordinal);
        }
    }

    [SkippableFact]
    public async Task Image_marked_corrupt_can_be_read_and_not_written()
    {
        using var scratch = new Scratch();
        QemuImage image = Make(scratch, new Qcow2Variant { ClusterSize = 4096 });
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        Patch(image.Path, bytes => SetBits(bytes, 2));
        await using (Graph graph = await TestGraph.OpenAsync(image.Path))
        {
            await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, "corrupt");
            await ReadComparison.AssertSameDescriptionAsync(graph.Root, image, "corrupt");
            Assert.NotEmpty(graph.Warnings);
        }

        byte[] before = File.ReadAllBytes(image.Path);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await (await TestGraph.OpenAsync(image.Path, TestGraph.Writable)).DisposeAsync());
        Assert.Contains("corrupt", e.Describe(), StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(image.Path));
    }

    [SkippableTheory]
    [InlineData(4096, 16)]
    [InlineData(512, 1)]
    [InlineData(65536, 64)]
    public async Task Image_left_dirty_by_qemu_is_read_checked_and_repaired_for_writing(int clusterSize, int refcountBits)
    {
        using var scratch = new Scratch();
        var variant = new Qcow2Variant
        {
            ClusterSize = clusterSize,
            RefcountBits = refcountBits,
            LazyRefcounts = true,
            Snapshots = refcountBits > 1 ? 1 : 0,
        };
        QemuImage image = Make(scratch, variant);
        // qemu dies with refcounts that are behind: the lazy ones were never written.
        PeerTool.TryIo(image.Path, "qcow2", ["write -q -P 5 10k 100k", "write -q -P 6 130k 512", "flush", "abort"]);
        QemuImage seen = image;
        string flat = QemuImages.Flatten(seen, scratch["flat"]);
        PeerCheck peer = PeerCheck.Run(image.Path, "qcow2");
        await using (Graph graph = await TestGraph.OpenAsync(image.Path))
        {
            Assert.True((await graph.Root.DescribeAsync()).DirtyFlag);
            await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, $"dirty {variant}");
            CheckReport ours = await ((ICheckable)graph.Image.Device).CheckAsync(CancellationToken.None);
            Assert.Equal(peer.Corruptions, ours.Corruptions);
            Assert.Equal(peer.Leaks, ours.Leaks);
            Assert.Equal(peer.Allocated ?? 0, ours.AllocatedClusters);
        }

        await using (Graph graph = await TestGraph.OpenAsync(image.Path, TestGraph.Writable))
        {
            using var disk = new ModelDisk(graph.Root, flat, image.Islands, Seed, $"dirty {variant}");
            for (int i = 0; i < 40; i++)
            {
                await disk.StepAsync();
            }
        }

        PeerCheck after = PeerCheck.Run(image.Path, "qcow2");
        Assert.True(after.ExitCode == 0, after.Text);
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), flat, $"dirty {variant}");
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(4095)]
    public async Task Virtual_size_of_odd_bytes_reads_to_its_last_byte(int less)
    {
        using var scratch = new Scratch();
        QemuImage image = Make(scratch, new Qcow2Variant { ClusterSize = 4096, Backing = "raw-long" });
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        long length = image.Length - less;
        Patch(image.Path, bytes => BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(24), length));
        await using Graph graph = await TestGraph.OpenAsync(image.Path);
        Assert.Equal(length, graph.Root.Length);
        byte[] expected = new byte[9000];
        byte[] found = new byte[9000];
        using (FileStream stream = File.OpenRead(flat))
        {
            stream.Position = length - expected.Length;
            stream.ReadExactly(expected);
        }

        await graph.Root.ReadAsync(length - found.Length, found);
        Assert.Equal(expected, found);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(length - 1, new byte[2]));
        Assert.Equal(BlockErrorKind.OutOfRange, e.Kind);
    }

    [SkippableTheory]
    [InlineData("file", false, "raw-long")]
    [InlineData("file", true, "raw-long")]
    [InlineData("raw", false, "none")]
    [InlineData("raw", true, "none")]
    public async Task Last_cluster_of_an_odd_disk_with_a_data_file_can_be_written(
        string dataFile, bool extended, string backing)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        var variant = new Qcow2Variant { DataFile = dataFile, ExtendedL2 = extended };
        string path = scratch["image.qcow2"];
        const long Length = (3 << 16) + 1536;
        List<string> create = ["create", "-q", "-f", "qcow2", "-o", variant.CreateOptions(scratch["data.raw"])];
        if (backing != "none")
        {
            File.WriteAllBytes(scratch["backing"], [.. Enumerable.Range(0, 1 << 18).Select(i => (byte)(i % 251))]);
            create.AddRange(["-b", "backing", "-F", "raw"]);
        }

        // qemu leaves the data file as long as the disk until it writes the last cluster itself.
        PeerTool.Img([.. create, path, Length.ToString(CultureInfo.InvariantCulture)]);
        var image = new QemuImage(path, "qcow2", Length, [(0, Length)]);
        string model = QemuImages.Flatten(image, scratch["model"]);
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            byte[] bytes = [1, 2, 3];
            await graph.Root.WriteAsync(3 << 16, bytes);
            using FileStream flat = File.OpenWrite(model);
            flat.Position = 3 << 16;
            flat.Write(bytes);
        }

        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, $"{variant}");
        Assert.Equal(0, PeerCheck.Run(path, "qcow2").ExitCode);
    }

    private static QemuImage Make(Scratch scratch, Qcow2Variant variant)
    {
        PeerTool.Require();
        return QemuImages.Qcow2(scratch, variant, Seed);
    }

    private static void Patch(string path, Action<byte[]> change)
    {
        byte[] bytes = File.ReadAllBytes(path);
        change(bytes);
        File.WriteAllBytes(path, bytes);
    }

    private static void SetBits(byte[] bytes, ulong bits)
    {
        Span<byte> field = bytes.AsSpan(Incompatible);
        BinaryPrimitives.WriteUInt64BigEndian(field, BinaryPrimitives.ReadUInt64BigEndian(field) | bits);
    }

    /// <summary>Rewrites the first line of the feature name table.</summary>
    private static void NameFeature(byte[] bytes, byte bit, string name)
    {
        int at = bytes.AsSpan().IndexOf(new byte[] { 0x68, 0x03, 0xf8, 0x57 }) + 8;
        Assert.True(at > 8, "qemu wrote no feature name table");
        bytes.AsSpan(at, 48).Clear();
        bytes[at + 1] = bit;
        Encoding.ASCII.GetBytes(name, bytes.AsSpan(at + 2));
    }
}
