using ImageMount.Formats.Tests.Parallels;
using ImageMount.Formats.Tests.Vdi;
using ImageMount.Formats.Tests.Vpc;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.BlockTables;

/// <summary>An image format with one flat table, in one of its shapes.</summary>
/// <param name="Format">Name of the driver.</param>
/// <param name="Unit">Bytes of a block or cluster.</param>
/// <param name="Make">Makes an empty image of a size.</param>
internal sealed record FlatTableVariant(string Format, int Unit, Func<int, ValueTask<byte[]>> Make)
{
    /// <summary>True when the image is made to have a parent.</summary>
    public bool HasParent { get; init; }

    /// <summary>True when qemu reads it.</summary>
    public bool PeerReads { get; init; }

    /// <summary>What qemu-img's check may say after a crash, where it says more than nothing; null for nothing.</summary>
    public string? PeerSaysAfterCrash { get; init; }

    /// <summary>A disk size that ends inside a unit and spans several.</summary>
    public int DiskSize => Math.Max(200 << 10, Unit * 3) + (3 * 512);
}

/// <summary>Shapes of images for the tests that all formats with a flat table share.</summary>
internal static class FlatTableImages
{
    public static readonly IReadOnlyDictionary<string, FlatTableVariant> Variants =
        new Dictionary<string, FlatTableVariant>
        {
            ["vdi"] = new("vdi", 1 << 20, size => CreateAsync("vdi", size))
            {
                PeerReads = true,
                PeerSaysAfterCrash = "allocated blocks mismatch",
            },
            ["vdi-static"] = new("vdi", 1 << 20, size => CreateAsync("vdi", size, "static=on")) { PeerReads = true },
            ["vdi-8k"] = new("vdi", 8 << 10, size => new(new VdiByHand { Size = size }.Build())),
            ["vdi-extra"] = new("vdi", 12 << 10, size => new(
                new VdiByHand { Size = size, BlockSize = 12 << 10, Extra = 1024 }.Build())),
            ["vdi-diff"] = new("vdi", 8 << 10, size => new(
                new VdiByHand { Size = size, Type = 4, LinkId = Guid.NewGuid() }.Build()))
            {
                HasParent = true,
            },
            ["vpc"] = new("vpc", 2 << 20, size => CreateAsync("vpc", size, "force_size=on")) { PeerReads = true },
            ["vpc-fixed"] = new("vpc", 8 << 10, size => CreateAsync("vpc", size, "force_size=on", "subformat=fixed"))
            {
                PeerReads = true,
            },
            ["vpc-8k"] = new("vpc", 8 << 10, size => new(new VpcByHand { Size = size }.Build())) { PeerReads = true },
            ["vpc-diff"] = new("vpc", 8 << 10, size => new(new VpcByHand { Size = size, Type = 4 }.Build()))
            {
                HasParent = true,
            },
            ["parallels"] = new("parallels", 64 << 10, size => CreateAsync("parallels", size, "cluster_size=64k"))
            {
                PeerReads = true,
                PeerSaysAfterCrash = "image was not closed correctly",
            },
            ["parallels-v1"] = new("parallels", 63 * 512, size => new(new ParallelsByHand { Size = size }.Build()))
            {
                PeerReads = true,
                PeerSaysAfterCrash = "image was not closed correctly",
            },
        };

    public static TheoryData<string, int> Cases(int seeds, Func<FlatTableVariant, bool>? which = null)
    {
        var data = new TheoryData<string, int>();
        foreach ((string name, FlatTableVariant variant) in Variants)
        {
            for (int seed = 1; seed <= seeds && (which is null || which(variant)); seed++)
            {
                data.Add(name, seed);
            }
        }

        return data;
    }

    /// <summary>An empty image as our creator makes it.</summary>
    public static async ValueTask<byte[]> CreateAsync(string format, long size, params string[] options)
    {
        using var dir = new TempDir();
        string path = dir.File("image");
        await CreateAsync(path, format, size, options);
        return File.ReadAllBytes(path);
    }

    /// <summary>An empty image as our creator makes it, in a file.</summary>
    public static async ValueTask CreateAsync(string path, string format, long size, params string[] options)
    {
        var map = new OptionMap();
        map.Set("size", size.ToString());
        foreach (string option in options)
        {
            string[] pair = option.Split('=', 2);
            map.Set(pair[0], pair[1]);
        }

        await new ImageMaker(TestGraph.Registry).CreateAsync(format, path, map, new CreateRequest());
    }

    /// <summary>Opens an image in memory.</summary>
    public static async ValueTask<(Graph Graph, MemoryDevice Device)> OpenAsync(
        string format, byte[] image, OpenFlags flags, OptionMap? more = null)
    {
        var device = new MemoryDevice(image);
        var file = new BlockNode("image", "test", device, new NodeOptions { ReadOnly = !flags.Writable });
        return (await TestGraph.Opener.OpenOverAsync(format, file, flags, more), device);
    }

    /// <summary>Options that give an image a raw parent.</summary>
    public static OptionMap WithParent(string path)
    {
        var options = new OptionMap();
        options.SetPath("backing.driver", "raw");
        options.SetPath("backing.file.driver", "file");
        options.SetPath("backing.file.filename", path);
        return options;
    }

    public static async Task<byte[]> ReadAllAsync(BlockNode disk)
    {
        var bytes = new byte[disk.Length];
        await disk.ReadAsync(0, bytes);
        return bytes;
    }

    public static async Task AssertContentAsync(BlockNode disk, byte[] content, string context)
    {
        byte[] found = await ReadAllAsync(disk);
        TestPattern.AssertEqual(content, found, 0, context);
    }

    /// <summary>Our check finds nothing at all.</summary>
    public static async Task AssertCleanAsync(Graph graph, string context)
    {
        CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
        Assert.True(
            report is { Corruptions: 0, Leaks: 0, CheckErrors: 0 }, $"{context}: {string.Join('\n', report.Problems)}");
    }

    /// <summary>The content as qemu-img reads it, rounded to sectors.</summary>
    public static byte[] ReadByPeer(TempDir dir, string format, byte[] image)
    {
        string raw = dir.File("by-peer.raw");
        File.Delete(raw);
        Qemu.Img("convert", "-f", format, "-O", "raw", dir.Write("image." + format, image), raw);
        return File.ReadAllBytes(raw);
    }
}
