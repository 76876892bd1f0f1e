using ImageMount.Formats.Qcow;
using ImageMount.Formats.Qcow2;
using ImageMount.Formats.Qed;
using ImageMount.Formats.Raw;
using ImageMount.Formats.Split;
using ImageMount.Formats.Vmdk;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>The formats under attack. A new format adds an entry, and everything here attacks it.</summary>
public static class HostileFormats
{
    private const int Seed = 5005;

    public static readonly IReadOnlyList<HostileFormat> All =
    [
        new("qcow2", new Qcow2Driver())
        {
            Seeds = Qcow2Seeds,
            Fields = bytes => new Qcow2Anatomy(bytes).Fields,
            Boundaries = bytes => new Qcow2Anatomy(bytes).Boundaries,
            Metadata = bytes => new Qcow2Anatomy(bytes).Structures,
        },
        new("vmdk", new VmdkDriver())
        {
            Seeds = VmdkSeeds,
            Fields = bytes => new VmdkAnatomy(bytes).Fields,
            Boundaries = bytes => new VmdkAnatomy(bytes).Boundaries,
            Metadata = bytes => new VmdkAnatomy(bytes).Structures,
        },
        new("qed", new QedDriver())
        {
            Seeds = () => TwoLevelSeeds("qed", "cluster_size=4k,table_size=2"),
            Fields = bytes => new TwoLevelAnatomy(bytes).Fields,
            Boundaries = bytes => new TwoLevelAnatomy(bytes).Boundaries,
            Metadata = bytes => new TwoLevelAnatomy(bytes).Structures,
        },
        new("qcow", new QcowDriver())
        {
            Seeds = () => TwoLevelSeeds("qcow", ""),
            Fields = bytes => new TwoLevelAnatomy(bytes).Fields,
            Boundaries = bytes => new TwoLevelAnatomy(bytes).Boundaries,
            Metadata = bytes => new TwoLevelAnatomy(bytes).Structures,
        },
        new("split", new SplitDriver())
        {
            Seeds = () =>
            [
                new SeedImage("a.001", [.. Enumerable.Range(0, 50_001).Select(i => (byte)(i * 7))])
                {
                    Companions = new Dictionary<string, byte[]> { ["a.002"] = new byte[777], ["a.003"] = new byte[20_000] },
                },
            ],
            Fields = _ => [],
            HasFields = false,
            Boundaries = bytes => [0, 1, 512, bytes.Length],
            Metadata = _ => [(0, 512)],
        },
        new("raw", new RawDriver())
        {
            Seeds = () => [new SeedImage("raw", Enumerable.Range(0, 70_001).Select(i => (byte)(i * 7)).ToArray())],
            Fields = _ => [],
            HasFields = false,
            Boundaries = bytes => [0, 1, 511, 512, bytes.Length],
            Metadata = _ => [(0, 512)],
        },
    ];

    public static TheoryData<string> Names => [.. All.Select(format => format.Name)];

    public static TheoryData<string> NamesWithFields =>
        [.. All.Where(format => format.HasFields).Select(format => format.Name)];

    public static HostileFormat Get(string name) => All.Single(format => format.Name == name);

    private static List<SeedImage> Qcow2Seeds()
    {
        PeerTool.Require();
        Qcow2Variant[] variants =
        [
            new() { ClusterSize = 512, Snapshots = 2, Bitmaps = true, OddSize = true },
            new() { ClusterSize = 512, Compat = "0.10", Snapshots = 1, Backing = "raw-short" },
            new() { ClusterSize = 16 << 10, ExtendedL2 = true, RefcountBits = 1, Compression = "zstd", Bitmaps = true },
            new() { ClusterSize = 512, DataFile = "file", RefcountBits = 64, LazyRefcounts = true },
        ];
        return [.. variants.Select(Make)];
    }

    private static SeedImage Make(Qcow2Variant variant)
    {
        using var scratch = new Scratch();
        QemuImage image = QemuImages.Qcow2(scratch, variant, Seed);
        return WithCompanions($"qcow2 {variant}", scratch, image.Path);
    }

    private static List<SeedImage> VmdkSeeds()
    {
        PeerTool.Require();
        const long Length = (1 << 20) + 7 * 512;
        (string, string)[] kinds =
        [
            ("monolithicSparse", ",zeroed_grain=on"), ("streamOptimized", ""), ("monolithicFlat", ""),
            ("twoGbMaxExtentSparse", ""),
        ];
        return [.. kinds.Select(kind =>
        {
            using var scratch = new Scratch();
            QemuImage image = QemuImages.Vmdk(scratch, kind.Item1, kind.Item2, Length, Seed);
            return WithCompanions($"vmdk {kind.Item1}", scratch, image.Path);
        })];
    }

    /// <summary>An image with every kind of cluster, and a child of a raw parent.</summary>
    private static List<SeedImage> TwoLevelSeeds(string format, string options)
    {
        PeerTool.Require();
        const long Length = (300 << 10) + (5 * 512);
        var seeds = new List<SeedImage>();
        foreach (bool hasParent in (bool[])[false, true])
        {
            using var scratch = new Scratch();
            QemuImage image = QemuImages.TwoLevel(scratch, format, options, Length, hasParent, Seed);
            seeds.Add(WithCompanions($"{format}{(hasParent ? " child" : "")}", scratch, image.Path));
        }

        return seeds;
    }

    /// <summary>The image, and every other file of its folder under its name and its path.</summary>
    private static SeedImage WithCompanions(string name, Scratch scratch, string path)
    {
        var companions = new Dictionary<string, byte[]>();
        foreach (string file in Directory.GetFiles(scratch.Folder).Where(f => f != path))
        {
            companions[file] = companions[Path.GetFileName(file)] = File.ReadAllBytes(file);
        }

        return new SeedImage(name, File.ReadAllBytes(path)) { Companions = companions };
    }
}
