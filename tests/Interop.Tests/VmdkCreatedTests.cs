using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Disks that we make, by option sets and sizes: written by us, read, checked and written on by qemu.</summary>
public sealed class VmdkCreatedTests
{
    private const int Seed = 9191;
    private const long Odd = (9 << 20) + 5 * 512;
    private const long Large = (4L << 30) + 9 * 512;

    private static readonly ImageMaker s_maker = new(TestGraph.Registry);

    [SkippableTheory]
    [InlineData("subformat=monolithicSparse", Odd)]
    [InlineData("subformat=monolithicSparse,zeroed_grain=on,compat6=on", Large)]
    [InlineData("subformat=twoGbMaxExtentSparse,zeroed_grain=on", Odd)]
    [InlineData("subformat=twoGbMaxExtentSparse", Large)]
    [InlineData("subformat=monolithicFlat", Odd)]
    [InlineData("subformat=twoGbMaxExtentFlat", Large)]
    public async Task Disk_made_and_written_by_us_is_sound_for_qemu(string options, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string path = scratch["ours.vmdk"];
        await s_maker.CreateAsync(
            "vmdk", path, OptionSyntax.ParsePairs($"size={length},{options}"), new CreateRequest());
        List<(long, long)> islands = length == Odd
            ? [(0, length)] : [(0, 2 << 20), (length / 2 - (1 << 20), length / 2 + (1 << 20)), (length - (2 << 20), length)];
        var image = new QemuImage(path, "vmdk", length, islands);
        string model = QemuImages.Flatten(image, scratch["model"]);
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            using var disk = new ModelDisk(graph.Root, model, islands, Seed, options);
            for (int i = 0; i < 120; i++)
            {
                await disk.StepAsync();
            }
        }

        PeerCheck check = PeerCheck.Run(path, "vmdk");
        bool isFlat = options.Contains("Flat", StringComparison.Ordinal);
        Assert.True(check.ExitCode == 0 || (isFlat && check.ExitCode == 63), $"{options}: {check.Text}");
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, options);
        PeerTool.Io(path, "vmdk", ["write -q -P 77 5k 300k", "write -q -z 1m 192k"]);
        string flat = QemuImages.Flatten(image, scratch["final"]);
        await using Graph again = await TestGraph.OpenAsync(path);
        await ReadComparison.AssertSameContentAsync(again.Root, flat, islands, Seed, $"{options}, written on by qemu");
    }

    [SkippableTheory]
    [InlineData(Odd)]
    [InlineData(Large)]
    public async Task Stream_made_by_us_from_a_fragmented_disk_reads_the_same_in_qemu(long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage source = QemuImages.Vmdk(scratch, "twoGbMaxExtentSparse", ",zeroed_grain=on", length, Seed);
        string path = scratch["stream.vmdk"];
        await using (Graph graph = await TestGraph.OpenAsync(source.Path))
        {
            await s_maker.CreateFromAsync(
                "vmdk", path, OptionSyntax.ParsePairs("subformat=streamOptimized,hwversion=10"), graph.Root,
                new CreateRequest());
        }

        // Rounded up to whole grains; what is added reads as zeroes, which is what compare asks for without -s.
        PeerTool.Img("compare", "-q", "-f", "vmdk", "-F", "vmdk", source.Path, path);
        PeerCheck check = PeerCheck.Run(path, "vmdk");
        Assert.True(check.ExitCode == 0, check.Text);
        await using Graph ours = await TestGraph.OpenAsync(path);
        Assert.Equal((length + 65535) / 65536 * 65536, ours.Root.Length);
        CheckReport report = await ((ICheckable)ours.Image.Device).CheckAsync(CancellationToken.None);
        Assert.True(report is { Corruptions: 0, CheckErrors: 0 }, string.Join('\n', report.Problems.Take(5)));
    }

    [SkippableTheory]
    [InlineData("streamOptimized")]
    [InlineData("monolithicSparse")]
    [InlineData("twoGbMaxExtentSparse")]
    public async Task Payload_of_ours_is_the_same_for_libvmdk(string subformat)
    {
        PeerTool.Require();
        PeerMount.Require("vmdkmount");
        using var scratch = new Scratch();
        QemuImage source = QemuImages.Vmdk(scratch, "monolithicSparse", "", Odd, Seed + 5);
        byte[] content = File.ReadAllBytes(QemuImages.Flatten(source, scratch["flat"]));
        string path = scratch["ours.vmdk"];
        OptionMap options = OptionSyntax.ParsePairs($"subformat={subformat}");
        if (subformat == "streamOptimized")
        {
            await using Graph graph = await TestGraph.OpenAsync(source.Path);
            await s_maker.CreateFromAsync("vmdk", path, options, graph.Root, new CreateRequest());
        }
        else
        {
            options.Set("size", $"{Odd}");
            await s_maker.CreateAsync("vmdk", path, options, new CreateRequest());
            await using Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
            for (int at = content.Length / 70_000 * 70_000; at >= 0; at -= 70_000)
            {
                ReadOnlyMemory<byte> part = content.AsMemory(at, Math.Min(70_000, content.Length - at));
                if (part.Span.ContainsAnyExcept((byte)0))
                {
                    await graph.Root.WriteAsync(at, part);
                }
            }
        }

        byte[] theirs = PeerMount.Read("vmdkmount", scratch, path);
        TestPattern.AssertEqual(
            content, theirs.AsSpan(0, content.Length), 0, $"{subformat} by libvmdk, seed {Seed + 5}");
        Assert.InRange(theirs.Length, content.Length, (content.Length + 65535) / 65536 * 65536);
        Assert.False(theirs.AsSpan(content.Length).ContainsAnyExcept((byte)0), "what is added is not zero");
    }

    [SkippableTheory]
    [InlineData(512)]
    [InlineData(32 << 10)]
    public async Task Cowd_extent_is_written_in_turns_by_qemu_and_by_us(int grain)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        using var dir = new TempDir();
        byte[] content = TestPattern.Make((int)Odd, 0, Seed);
        content.AsSpan(1 << 20, 4 << 20).Clear();
        string path = EsxImages.WriteCowd(dir, "esx", content, Seed, grain);
        var image = new QemuImage(path, "vmdk", Odd, [(0, Odd)]);
        for (int round = 0; round < 2; round++)
        {
            PeerTool.Io(path, "vmdk", [$"write -q -P {round + 1} {(round + 1) * 700_000 / 512 * 512} 100k"]);
            string model = QemuImages.Flatten(image, scratch["model"]);
            await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
            {
                await ReadComparison.AssertSameContentAsync(graph.Root, model, image.Islands, Seed, $"round {round}");
                using var disk = new ModelDisk(graph.Root, model, image.Islands, Seed + round, $"round {round}");
                for (int i = 0; i < 40; i++)
                {
                    await disk.StepAsync();
                }
            }

            Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, $"round {round}");
            Assert.Equal(0, PeerCheck.Run(path, "vmdk").ExitCode);
        }
    }
}
