using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>Images of every subformat that qemu-img can make.</summary>
public sealed class VmdkReadTests
{
    private const int Length = (7 << 20) + (3 * 512);

    public static TheoryData<string, string> Variants()
    {
        var variants = new TheoryData<string, string>();
        foreach (string subformat in VmdkImages.Subformats)
        {
            variants.Add(subformat, "");
            variants.Add(subformat, "adapter_type=lsilogic,hwversion=7");
            variants.Add(subformat, "compat6=on");
            if (!subformat.EndsWith("Flat", StringComparison.Ordinal))
            {
                variants.Add(subformat, "zeroed_grain=on");
            }
        }

        return variants;
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public async Task Image_by_qemu_img_reads_the_same(string subformat, string more)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(Length, 5);
        string path = VmdkImages.Convert(dir, "disk", content, [$"subformat={subformat}", .. Split(more)]);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal("vmdk", graph.Root.Driver);
        await VmdkImages.AssertReadsAsync(graph.Root, content, $"{subformat} {more}");
        await VmdkImages.AssertCleanAsync(graph);
    }

    [SkippableTheory]
    [InlineData("monolithicSparse", "")]
    [InlineData("monolithicSparse", "zeroed_grain=on")]
    [InlineData("monolithicFlat", "")]
    [InlineData("twoGbMaxExtentSparse", "")]
    [InlineData("twoGbMaxExtentFlat", "")]
    public async Task Shuffled_image_reads_as_qemu_img_reads_it(string subformat, string more)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(Length, 6);
        string path = VmdkImages.Shuffled(dir, "disk", content, [$"subformat={subformat}", .. Split(more)]);
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), "the peer reads what it wrote");
        await using Graph graph = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertReadsAsync(graph.Root, content, subformat);
        await VmdkImages.AssertCleanAsync(graph);
    }

    [SkippableFact]
    public async Task Zeroed_grains_hide_the_parent()
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(1 << 20, 7);
        VmdkImages.Convert(dir, "parent", content, "subformat=monolithicSparse");
        string child = dir.File("child.vmdk");
        Qemu.Img("create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on,backing_fmt=vmdk", "-b",
            dir.File("parent.vmdk"), child);
        Qemu.Io("vmdk", child, "write -z 128k 128k", "write -P 7 300k 3k");
        content.AsSpan(128 << 10, 128 << 10).Clear();
        content.AsSpan(300 << 10, 3 << 10).Fill(7);
        await using Graph graph = await TestGraph.OpenAsync(child);
        await VmdkImages.AssertReadsAsync(graph.Root, content, "child");
    }

    [SkippableFact]
    public async Task Disk_of_several_two_gigabyte_extents_reads_across_their_borders()
    {
        using var dir = new TempDir();
        foreach (string subformat in new[] { "twoGbMaxExtentSparse", "twoGbMaxExtentFlat" })
        {
            string path = dir.File(subformat + ".vmdk");
            Qemu.Img("create", "-q", "-f", "vmdk", "-o", $"subformat={subformat}", path, "5G");
            const long Border = 2L << 30;
            Qemu.Io("vmdk", path, $"write -P 1 {Border - 65536} 64k", $"write -P 2 {Border} 64k",
                $"write -P 3 {(2 * Border) - 512} 1k");
            await using Graph graph = await TestGraph.OpenAsync(path);
            Assert.Equal(5L << 30, graph.Root.Length);
            var buffer = new byte[256 << 10];
            await graph.Root.ReadAsync(Border - (128 << 10), buffer);
            for (int i = 0; i < buffer.Length; i++)
            {
                Assert.Equal(i < 65536 ? 0 : i < 131072 ? 1 : i < 196608 ? 2 : 0, buffer[i]);
            }

            await graph.Root.ReadAsync((2 * Border) - 1024, buffer.AsMemory(0, 2048));
            Assert.Equal([0, 3, 3, 0], [buffer[511], buffer[512], buffer[1535], buffer[1536]]);
        }
    }

    [SkippableTheory]
    [InlineData("monolithicSparse")]
    [InlineData("twoGbMaxExtentSparse")]
    [InlineData("streamOptimized")]
    [InlineData("monolithicFlat")]
    public async Task Description_matches_qemu_img_info(string subformat)
    {
        using var dir = new TempDir();
        string path = VmdkImages.Convert(dir, "disk", VmdkImages.Content(1 << 20, 8), $"subformat={subformat}");
        using var json = System.Text.Json.JsonDocument.Parse(Qemu.Img("info", "--output=json", path));
        System.Text.Json.JsonElement data = json.RootElement.GetProperty("format-specific").GetProperty("data");
        await using Graph graph = await TestGraph.OpenAsync(path);
        DeviceInfo info = await graph.Root.DescribeAsync();
        var facts = new Dictionary<string, object>(info.FormatSpecific);
        Assert.Equal(data.GetProperty("cid").GetInt64(), facts["cid"]);
        Assert.Equal(data.GetProperty("parent-cid").GetInt64(), facts["parent-cid"]);
        Assert.Equal(data.GetProperty("create-type").GetString(), facts["create-type"]);
        var extent = (Dictionary<string, object>)((List<object>)facts["extents"])[0];
        System.Text.Json.JsonElement expected = data.GetProperty("extents")[0];
        Assert.Equal(expected.GetProperty("virtual-size").GetInt64(), extent["virtual-size"]);
        Assert.Equal(expected.GetProperty("filename").GetString(), extent["filename"]);
        Assert.Equal(expected.TryGetProperty("compressed", out _), extent.ContainsKey("compressed"));
        Assert.Equal(expected.TryGetProperty("cluster-size", out _), extent.ContainsKey("cluster-size"));
    }

#if !DEBUG
    // Debug builds allocate a state machine for every async call; scripts/test runs this in a release build.
    [SkippableFact]
    [Trait("Build", "Release")]
    public async Task Warm_reads_of_a_sparse_disk_do_not_allocate()
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(Length, 9);
        string path = VmdkImages.Shuffled(dir, "disk", content, "subformat=monolithicSparse");
        await using Graph graph = await TestGraph.OpenAsync(path);
        var buffer = new byte[200_000];
        Assert.Equal(0, Allocations.Least(300, () =>
        {
            for (int at = 0; at + buffer.Length < Length; at += 300_001)
            {
                Assert.True(graph.Root.ReadAsync(at, buffer).IsCompletedSuccessfully);
            }
        }));
    }
#endif

    private static string[] Split(string options) => options.Length == 0 ? [] : options.Split(',');
}
