using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>External data files, raw ones too, with qemu as the other side.</summary>
public sealed class Qcow2DataFileTests
{
    private const int Size = (4 << 20) + (5 * 512);

    [SkippableTheory]
    [InlineData("data_file_raw=off", false)]
    [InlineData("data_file_raw=off,extended_l2=on", false)]
    [InlineData("data_file_raw=off,cluster_size=4k", false)]
    [InlineData("data_file_raw=on", true)]
    public async Task Image_by_qemu_is_written_and_read_back_by_qemu(string options, bool raw)
    {
        using var dir = new TempDir();
        string image = dir.File("disk.qcow2");
        string data = dir.File("disk.data");
        Qemu.Img("create", "-q", "-f", "qcow2", "-o", $"data_file={data},{options}", image, $"{Size}");
        Qemu.Io("qcow2", image, "write -P 5 100k 300k", "write -P 6 2M 64k", "write -z 2M 4k");
        for (int session = 0; session < 2; session++)
        {
            var random = new Random(session);
            await using Graph graph = await TestGraph.OpenAsync(image, TestGraph.Writable);
            await Qcow2Images.ChurnAsync(graph.Root, random, 60, 64 << 10);
            byte[] content = await Qcow2Images.ReadAllAsync(graph.Root);
            await Qcow2Images.AssertCleanAsync(graph.Root, "open");
            await graph.CloseAsync();
            Assert.Equal(0, Qemu.Run("qemu-img", "check", image).ExitCode);
            string peer = dir.File("peer.raw");
            Qemu.Img("convert", "-O", "raw", image, peer);
            TestPattern.AssertEqual(content, File.ReadAllBytes(peer), 0, "what qemu-img reads");
            if (raw)
            {
                TestPattern.AssertEqual(content, File.ReadAllBytes(data).AsSpan(0, Size), 0, "the data file itself");
            }
        }
    }

    [SkippableFact]
    public async Task Raw_data_file_is_exposed_as_a_host_file_for_writing_only_when_fully_mapped()
    {
        using var dir = new TempDir();
        string image = dir.File("disk.qcow2");
        string data = dir.File("disk.data");
        // Where the disk does not end with a cluster, qemu's data file is longer than the disk.
        const int Whole = 4 << 20;
        Qemu.Img("create", "-q", "-f", "qcow2", "-o", $"data_file={data},data_file_raw=on", image, $"{Whole}");
        await using (Graph graph = await TestGraph.OpenAsync(image))
        {
            Assert.True(graph.Root.TryGetHostFile(out HostFileRegion region));
            Assert.Equal(0, region.Offset);
        }

        await using (Graph graph = await TestGraph.OpenAsync(image, TestGraph.Writable))
        {
            Assert.True(graph.Root.TryGetHostFile(out HostFileRegion region)); // qemu-img maps everything.
            RandomAccess.Write(region.Handle, TestPattern.Make(8192, 0, 3), 1 << 20);
            Assert.True(await graph.Root.TryResizeAsync(Whole + (1 << 20)));
            Assert.True(graph.Root.TryGetHostFile(out region));
            RandomAccess.Write(region.Handle, TestPattern.Make(8192, 0, 4), Whole);
            byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
            TestPattern.AssertEqual(TestPattern.Make(8192, 0, 3), found.AsSpan(1 << 20, 8192), 0, "old part");
            TestPattern.AssertEqual(TestPattern.Make(8192, 0, 4), found.AsSpan(Whole, 8192), 0, "new part");
        }

        string peer = dir.File("peer.raw");
        Qemu.Img("convert", "-O", "raw", image, peer);
        Assert.True(File.ReadAllBytes(data).AsSpan().SequenceEqual(File.ReadAllBytes(peer)), "qemu reads the same");
        Assert.Equal(0, Qemu.Run("qemu-img", "check", image).ExitCode);
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Image_by_our_creator_is_an_image_to_qemu(bool raw)
    {
        using var dir = new TempDir();
        string image = dir.Write("disk.qcow2", []);
        string data = dir.Write("disk.data", []);
        await using (Graph file = await TestGraph.OpenAsync(image, TestGraph.Writable))
        await using (Graph dataFile = await TestGraph.OpenAsync(data, TestGraph.Writable))
        {
            var options = new Qcow2CreateOptions { Size = Size, DataFile = data, DataFileRaw = raw };
            await Qcow2Creator.CreateAsync(file.Root, options, dataFile.Root, CancellationToken.None);
        }

        Assert.Equal(0, Qemu.Run("qemu-img", "check", image).ExitCode);
        Qemu.Io("qcow2", image, "write -P 9 1M 1M");
        await using Graph graph = await TestGraph.OpenAsync(image, TestGraph.Writable);
        byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
        Assert.Equal(1 << 20, found.AsSpan().IndexOf((byte)9));
        Assert.Equal((2 << 20) - 1, found.AsSpan().LastIndexOf((byte)9));
        Assert.Equal(raw, graph.Root.TryGetHostFile(out _));
    }
}
