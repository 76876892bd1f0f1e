using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Formats with one allocation table, over the options that qemu has for them: its images read by us, written by us and
/// read by it; ours written by both.
/// </summary>
public sealed class FlatTableTests
{
    private const int Seed = 4711;
    private const long Odd = (9 << 20) + (3 * 512);

    /// <summary>Beyond one cached piece of a table with units of 1 MiB.</summary>
    private const long Large = (1100L << 20) + (7 * 512);

    /// <summary>Format, options, unit, length.</summary>
    public static TheoryData<string, string, int, long> Cases => new()
    {
        { "vdi", "", 1 << 20, Odd },
        { "vdi", "static=on", 1 << 20, Odd },
        { "vdi", "", 1 << 20, Large },
        { "vpc", "", 2 << 20, Odd },
        { "vpc", "force_size=on", 2 << 20, Odd },
        { "vpc", "subformat=fixed", 2 << 20, Odd },
        { "vpc", "subformat=fixed,force_size=on", 2 << 20, Odd },
        { "vpc", "", 2 << 20, Large },
        { "parallels", "", 1 << 20, Odd },
        { "parallels", "cluster_size=64k", 64 << 10, Odd },
        { "parallels", "cluster_size=512k", 512 << 10, Large },
    };

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Image_of_qemu_reads_as_qemu_reads_it(string format, string options, int unit, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"{format} {options} {length}";
        QemuImage image = QemuImages.FlatTable(scratch, format, options, Fine(unit), length, Seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        await using Graph graph = await TestGraph.OpenAsync(image.Path);
        Assert.Equal(format, graph.Root.Driver);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, name);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal(new FileInfo(flat).Length, info.VirtualSize);
        await AssertCleanAsync(graph, name);
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Image_of_qemu_written_by_us_is_sound_for_qemu(
        string format, string options, int unit, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"{format} {options} {length}";
        QemuImage image = QemuImages.FlatTable(scratch, format, options, Fine(unit), length, Seed + 1);
        await WriteInTurnsAsync(scratch, image, name);
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Image_of_ours_written_by_us_is_sound_for_qemu(
        string format, string options, int unit, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"our {format} {options} {length} ({unit})";
        string path = scratch["image." + format];
        await CreateAsync(path, format, options, length);
        await using (Graph made = await TestGraph.OpenAsync(path))
        {
            length = made.Root.Length; // VHDs are rounded up to cylinders, as qemu rounds them.
        }

        string twin = scratch["twin." + format];
        string[] more = options.Length == 0 ? [] : ["-o", options];
        PeerTool.Img(["create", "-q", "-f", format, .. more, twin, length.ToString()]);
        await using (Graph theirs = await TestGraph.OpenAsync(twin))
        {
            Assert.Equal(theirs.Root.Length, length);
        }

        List<(long, long)> islands = [(0, Math.Min(length, 7 << 20)), (length - (5 << 20), length)];
        await WriteInTurnsAsync(scratch, new QemuImage(path, format, length, islands), name);
    }

    [SkippableTheory]
    [InlineData("chs", "")]
    [InlineData("chs", "force_size=on")]
    [InlineData("current_size", "")]
    [InlineData("current_size", "force_size=on")]
    [InlineData("chs", "subformat=fixed,force_size=on")]
    [InlineData("current_size", "subformat=fixed")]
    public async Task Size_of_a_vhd_is_calculated_as_qemu_is_told_to(string how, string options)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage image = QemuImages.FlatTable(scratch, "vpc", options, 64 << 10, Odd, Seed + 2);
        if (options.Length > 0 && options != "subformat=fixed")
        {
            // A geometry that is smaller than the size, as Hyper-V leaves it; and the checksums for it.
            PatchGeometry(image.Path, 100, 4, 17);
        }

        string source = $"driver=vpc,force_size_calc={how},file.filename={image.Path}";
        string flat = scratch["flat"];
        PeerTool.Img("convert", "-q", "--image-opts", "-O", "raw", source, flat);
        await using Graph graph = await TestGraph.OpenOptionsAsync(source);
        Assert.Equal(new FileInfo(flat).Length, graph.Root.Length);
        await ReadComparison.AssertSameContentAsync(
            graph.Root, flat, [(0, graph.Root.Length)], Seed, $"{how} {options}");
    }

    private static void PatchGeometry(string path, int cylinders, int heads, int sectors)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int last = bytes.Length - 512;
        foreach (int at in bytes.AsSpan().StartsWith("conectix"u8) ? (int[])[0, last] : [last])
        {
            Span<byte> footer = bytes.AsSpan(at, 512);
            BinaryPrimitives.WriteUInt16BigEndian(footer[56..], (ushort)cylinders);
            (footer[58], footer[59]) = ((byte)heads, (byte)sectors);
            footer.Slice(64, 4).Clear();
            uint sum = 0;
            foreach (byte b in footer)
            {
                sum += b;
            }

            BinaryPrimitives.WriteUInt32BigEndian(footer[64..], ~sum);
        }

        File.WriteAllBytes(path, bytes);
    }

    /// <summary>Makes an image with options as qemu-img's -o has them.</summary>
    internal static async Task CreateAsync(string path, string format, string options, long length)
    {
        var map = new OptionMap();
        map.Set("size", length.ToString());
        foreach (string option in options.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] pair = option.Split('=', 2);
            map.Set(pair[0], pair[1]);
        }

        await new ImageMaker(TestGraph.Registry).CreateAsync(format, path, map, new CreateRequest());
    }

    /// <summary>We write, qemu reads and checks; qemu writes, we read and check.</summary>
    private static async Task WriteInTurnsAsync(Scratch scratch, QemuImage image, string name)
    {
        string model = QemuImages.Flatten(image, scratch["model"]);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path, TestGraph.Writable))
        {
            using var disk = new ModelDisk(graph.Root, model, image.Islands, Seed, name);
            for (int i = 0; i < 150; i++)
            {
                await disk.StepAsync();
            }
        }

        PeerCheck check = PeerCheck.Run(image.Path, image.Format);
        Assert.True(check.ExitCode is 0 or 63, $"{name}: {check.Text}");
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, name);
        long last = (image.Length & -512) - 66_048;
        PeerTool.Io(
            image.Path, image.Format,
            ["write -q -P 99 3k 200k", $"write -q -P 7 {last} 65536", "write -q -z 2m 64k", "write -q -P 5 5m 3m"]);
        string flat = QemuImages.Flatten(image, scratch["final"]);
        await using Graph again = await TestGraph.OpenAsync(image.Path, TestGraph.Writable);
        await ReadComparison.AssertSameContentAsync(again.Root, flat, image.Islands, Seed, $"{name}, written on by qemu");
        await AssertCleanAsync(again, $"{name}, written on by qemu");
    }

    private static async Task AssertCleanAsync(Graph graph, string name)
    {
        CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(CancellationToken.None);
        Assert.True(
            report is { Corruptions: 0, CheckErrors: 0, Leaks: 0 }, $"{name}: {string.Join('\n', report.Problems.Take(5))}");
    }

    /// <summary>Pieces to write: several in a unit, and now and then a unit that stays free.</summary>
    private static int Fine(int unit) => Math.Max(64 << 10, unit / 2);
}
