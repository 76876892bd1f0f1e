using ImageMount.Formats.Vmdk;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>Disks that we make: usable here and in qemu.</summary>
public sealed class VmdkCreateTests
{
    [SkippableTheory]
    [InlineData(512, false)]
    [InlineData((5 << 20) + 512, true)]
    [InlineData(100L << 30, false)]
    [InlineData(VmdkCreator.MaxSparseSize, true)]
    public async Task Sparse_disk_is_written_by_us_and_by_qemu(long size, bool zeroedGrain)
    {
        using var dir = new TempDir();
        string path = dir.Write("new.vmdk", []);
        await using (Graph file = await TestGraph.OpenOptionsAsync($"driver=file,filename={path}", TestGraph.Writable))
        {
            await VmdkCreator.CreateSparseAsync(
                file.Root, "new.vmdk", size,
                new VmdkCreateOptions { ZeroedGrain = zeroedGrain, AdapterType = "lsilogic", Compat6 = true });
        }

        Qemu.Img("check", "-f", "vmdk", path);
        byte[] ours = TestPattern.Make(512, 0, 1);
        await using (Graph disk = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal(size, disk.Root.Length);
            await VmdkImages.AssertCleanAsync(disk);
            await disk.Root.WriteAsync(size - 512, ours);
        }

        Qemu.Img("check", "-f", "vmdk", path);
        Qemu.Io("vmdk", path, $"read -P {0} 0 {Math.Min(size - 512, 4096)}", $"write -P 9 {size / 1024 * 512} 512");
        await using Graph again = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertCleanAsync(again);
        var found = new byte[512];
        await again.Root.ReadAsync(size / 1024 * 512, found);
        Assert.All(found, b => Assert.Equal(9, b));
        if (size > 1024)
        {
            await again.Root.ReadAsync(size - 512, found);
            Assert.Equal(ours, found);
        }
    }

    [SkippableFact]
    public async Task Flat_disk_and_child_of_a_sparse_disk_are_accepted_by_qemu()
    {
        using var dir = new TempDir();
        string flat = dir.Write("flat.vmdk", []);
        string data = dir.Write("flat-flat.vmdk", []);
        string parent = VmdkImages.Convert(dir, "parent", VmdkImages.Content(1 << 20, 2), "subformat=monolithicSparse");
        string child = dir.Write("child.vmdk", []);
        await using (Graph text = await TestGraph.OpenOptionsAsync($"driver=file,filename={flat}", TestGraph.Writable))
        await using (Graph bytes = await TestGraph.OpenOptionsAsync($"driver=file,filename={data}", TestGraph.Writable))
        {
            await VmdkCreator.CreateFlatAsync(
                text.Root, bytes.Root, "flat-flat.vmdk", 3 << 20, new VmdkCreateOptions());
        }

        uint cid;
        await using (Graph graph = await TestGraph.OpenAsync(parent))
        {
            DeviceInfo info = await graph.Root.DescribeAsync();
            cid = (uint)(long)info.FormatSpecific.Single(fact => fact.Key == "cid").Value;
        }

        await using (Graph file = await TestGraph.OpenOptionsAsync($"driver=file,filename={child}", TestGraph.Writable))
        {
            await VmdkCreator.CreateSparseAsync(
                file.Root, "child.vmdk", 1 << 20, new VmdkCreateOptions { BackingFile = "parent.vmdk", BackingCid = cid });
        }

        Qemu.Io("vmdk", flat, "write -P 3 1M 64k");
        Assert.True(VmdkImages.Content(1 << 20, 2).AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, child)));
        await using Graph ours = await TestGraph.OpenAsync(child);
        await VmdkImages.AssertReadsAsync(ours.Root, VmdkImages.Content(1 << 20, 2), "child");
    }

    [SkippableFact]
    public async Task Impossible_sizes_and_files_in_use_are_refused()
    {
        foreach (long size in new[] { 0, 1, 513, VmdkCreator.MaxSparseSize + 512, long.MinValue })
        {
            var file = new BlockNode("file", "test", new MemoryDevice(0));
            var e = await Assert.ThrowsAsync<BlockException>(
                async () => await VmdkCreator.CreateSparseAsync(file, "x", size, new VmdkCreateOptions()));
            Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        }

        var full = new BlockNode("file", "test", new MemoryDevice(512));
        await Assert.ThrowsAsync<BlockException>(
            async () => await VmdkCreator.CreateSparseAsync(full, "x", 512, new VmdkCreateOptions()));
    }
}
