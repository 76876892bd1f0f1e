using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// VHDX of qemu: read, described, written by us and read by qemu, and on; made and written by us and read by qemu and
/// by libvhdi, which alone knows parents.
/// </summary>
public sealed class VhdxTests
{
    private const int Seed = 9019;
    private const long Odd = (9 << 20) + 3 * 512;

    // Beyond what is written of it, and more than one block of 256 MiB.
    private const long Large = (300L << 20) + 7 * 512;

    public static TheoryData<string, long> Variants => new()
    {
        { "subformat=dynamic,block_size=1M", Odd },
        { "subformat=dynamic,block_size=2M,block_state_zero=off,log_size=3M", Odd },
        { "subformat=dynamic", Large },
        { "subformat=dynamic,block_size=256M", Large },
        { "subformat=fixed,block_size=1M", Odd },
        { "subformat=fixed,block_size=4M,block_state_zero=off", Odd },
    };

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public async Task Image_of_qemu_reads_as_qemu_reads_it_and_is_written_on_by_both(string options, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"{options} {length}";
        QemuImage image = QemuImages.Vhdx(scratch, options, length, Seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path))
        {
            Assert.Equal("vhdx", graph.Root.Driver);
            await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, name);
            await ReadComparison.AssertSameDescriptionAsync(graph.Root, image, name);
            await AssertSoundAsync(graph, name);
        }

        await WriteOnAsync(scratch, image, flat, name);
    }

    [SkippableTheory]
    [InlineData("dynamic", "1M", "on", Odd)]
    [InlineData("dynamic", "0", "off", Large)]
    [InlineData("fixed", "2M", "on", Odd)]
    public async Task Image_made_by_us_is_sound_for_qemu_and_libvhdi(
        string subformat, string blockSize, string blockStateZero, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string path = scratch["ours.vhdx"];
        await MakeAsync(path, ("size", $"{length}"), ("subformat", subformat), ("block_size", blockSize),
            ("block_state_zero", blockStateZero), ("log_size", "2M"));
        PeerTool.Img("check", "-f", "vhdx", path);
        IReadOnlyList<(long, long)> islands = length < 100 << 20
            ? [(0, length)] : [(0, 2 << 20), (length / 2, length / 2 + (1 << 20)), (length - (1 << 20), length)];
        var image = new QemuImage(path, "vhdx", length, islands);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        await WriteOnAsync(scratch, image, flat, $"ours, {subformat} {blockSize}");
        string info = Qemu.Succeed("vhdiinfo", path);
        Assert.Contains("VHDX", info, StringComparison.Ordinal);
        Assert.Contains($"({length} bytes)", info, StringComparison.Ordinal);
        Assert.Contains(subformat, info, StringComparison.OrdinalIgnoreCase);
    }

    [SkippableFact]
    public async Task Log_that_qemu_left_is_replayed_in_memory_or_in_the_file()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string path = Corpus.Unpack("iotest-dirtylog-10G-4M.vhdx", scratch.Folder);
        string repaired = scratch["repaired.vhdx"];
        File.Copy(path, repaired);
        PeerTool.TryImg("check", "-r", "all", "-f", "vhdx", repaired);
        string flat = QemuImages.Flatten(new QemuImage(repaired, "vhdx", 10L << 30, [(0, 20 << 20)]), scratch["flat"]);
        byte[] before = File.ReadAllBytes(path);
        foreach (OpenFlags flags in (OpenFlags[])[TestGraph.ReadOnly, TestGraph.Writable])
        {
            await using Graph graph = await TestGraph.OpenAsync(path, flags);
            Assert.Equal(!flags.Writable, (await graph.Root.DescribeAsync()).DirtyFlag);
            await ReadComparison.AssertSameContentAsync(graph.Root, flat, [(0, 20 << 20)], Seed, "replayed");
            await AssertSoundAsync(graph, "replayed");
            Assert.Equal(!flags.Writable, before.AsSpan().SequenceEqual(File.ReadAllBytes(path)));
        }

        PeerTool.Img("check", "-f", "vhdx", path);
    }

    [SkippableFact]
    public async Task Image_of_hyper_v_reads_as_qemu_reads_it()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string path = Corpus.Unpack("iotest-dynamic-1G.vhdx", scratch.Folder);
        var image = new QemuImage(path, "vhdx", 1 << 30, [(0, 100 << 20)]);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        await using Graph graph = await TestGraph.OpenAsync(path);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, "Hyper-V");
        await AssertSoundAsync(graph, "Hyper-V");
    }

    [SkippableFact]
    public async Task Child_is_read_by_libvhdi_as_by_us()
    {
        PeerMount.Require("vhdimount");
        using var scratch = new Scratch();
        await MakeAsync(scratch["parent.vhdx"], ("size", $"{Odd}"), ("block_size", "1M"));
        await using (Graph graph = await TestGraph.OpenAsync(scratch["parent.vhdx"], TestGraph.Writable))
        {
            await graph.Root.WriteAsync(100, TestPattern.Make(5 << 20, 100, 1));
        }

        await MakeAsync(scratch["child.vhdx"], ("backing_file", "parent.vhdx"), ("block_size", "1M"));
        byte[] content = new byte[Odd];
        await using (Graph graph = await TestGraph.OpenAsync(scratch["child.vhdx"], TestGraph.Writable))
        {
            var random = new Random(Seed);
            for (int i = 0; i < 60; i++)
            {
                int at = random.Next((int)Odd - 5000);
                await graph.Root.WriteAsync(at, TestPattern.Make(random.Next(1, 5000), at, i));
            }

            await graph.Root.WriteAsync(2 << 20, TestPattern.Make(1 << 20, 0, 77));

            // Part of a block: through whole blocks that are marked as zeroes libvhdi shows the parent, which the
            // specification does not allow.
            await graph.Root.ZeroAsync((4 << 20) + 4096, 1 << 19, ZeroFlags.MayUnmap);
            await graph.Root.ReadAsync(0, content);
        }

        Assert.Contains("ifferential", Qemu.Succeed("vhdiinfo", scratch["child.vhdx"]), StringComparison.Ordinal);
        TestPattern.AssertEqual(
            content, PeerMount.Read("vhdimount", scratch, scratch["child.vhdx"]), 0, "what libvhdi reads");
    }

    [SkippableTheory]
    [InlineData("subformat=dynamic,block_size=1M", 512)]
    [InlineData("subformat=dynamic,block_size=2M,block_state_zero=off", 4096)]
    [InlineData("subformat=dynamic,block_size=1M,log_size=3M", 4096)]
    [InlineData("subformat=fixed,block_size=1M", 512)]
    [InlineData("subformat=fixed,block_size=2M", 4096)]
    public async Task Payload_of_ours_is_the_same_for_libvhdi(string options, int sectorSize)
    {
        PeerMount.Require("vhdimount");
        using var scratch = new Scratch();
        string path = scratch["ours.vhdx"];
        byte[] content = new byte[(9 << 20) + (3 * 4096)];
        await MakeAsync(
            path, [("size", $"{content.Length}"), ("logical_sector_size", $"{sectorSize}"),
                .. options.Split(',').Select(option => (option.Split('=')[0], option.Split('=')[1]))]);
        var random = new Random(Seed);
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            for (int i = 0; i < 40; i++)
            {
                // Out of order, and most of them not whole sectors; the third block is left alone.
                int at = random.Next(content.Length);
                at = at >> 21 == 1 ? at & ((1 << 21) - 1) : at;
                int count = Math.Min(random.Next(1, 70_000), content.Length - at);
                count = at < 1 << 21 ? Math.Min(count, (1 << 21) - at) : count;
                TestPattern.Fill(content.AsSpan(at, count), at, i);
                await graph.Root.WriteAsync(at, content.AsMemory(at, count));
            }

            await graph.Root.ZeroAsync((5 << 20) + 1000, 100_000, ZeroFlags.MayUnmap);
            content.AsSpan((5 << 20) + 1000, 100_000).Clear();
        }

        TestPattern.AssertEqual(content, PeerMount.Read("vhdimount", scratch, path), 0, $"{options}, seed {Seed}");
    }

    private static async Task WriteOnAsync(Scratch scratch, QemuImage image, string flat, string name)
    {
        string model = scratch["model"];
        File.Copy(flat, model);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path, TestGraph.Writable))
        {
            using var disk = new ModelDisk(graph.Root, model, image.Islands, Seed, name);
            for (int i = 0; i < 80; i++)
            {
                await disk.StepAsync();
            }

            await AssertSoundAsync(graph, name);
        }

        PeerTool.Img("check", "-f", "vhdx", image.Path);
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, name);
        PeerTool.Io(image.Path, "vhdx", ["write -q -P 99 3k 200k", "write -q -z 1m 64k"]);
        string last = QemuImages.Flatten(image, scratch["final"]);
        await using Graph again = await TestGraph.OpenAsync(image.Path);
        await ReadComparison.AssertSameContentAsync(
            again.Root, last, image.Islands, Seed, $"{name}, written on by qemu");
    }

    private static async Task AssertSoundAsync(Graph graph, string name)
    {
        CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(CancellationToken.None);
        Assert.True(
            report is { Corruptions: 0, CheckErrors: 0 }, $"{name}: {string.Join('\n', report.Problems.Take(5))}");
    }

    private static async Task MakeAsync(string path, params (string Key, string Value)[] settings)
    {
        var options = new OptionMap();
        foreach ((string key, string value) in settings)
        {
            options.Set(key, value);
        }

        await new ImageMaker(TestGraph.Registry).CreateAsync("vhdx", path, options, new CreateRequest());
    }
}
