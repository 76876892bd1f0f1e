using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Formats.Bochs;
using ImageMount.Formats.Cloop;
using ImageMount.Formats.Dmg;
using ImageMount.Formats.EncrCdsa;
using ImageMount.Formats.Parallels;
using ImageMount.Formats.Qcow;
using ImageMount.Formats.Luks;
using ImageMount.Formats.Qcow2;
using ImageMount.Formats.Qed;
using ImageMount.Formats.Raw;
using ImageMount.Formats.Vdi;
using ImageMount.Formats.Vhdx;
using ImageMount.Formats.Split;
using ImageMount.Formats.Vmdk;
using ImageMount.Formats.Vpc;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

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
        .. WrapperFormats.All,
        new("dmg", new DmgDriver())
        {
            Seeds = AppleSeeds.Dmg,
            Fields = bytes => new DmgAnatomy(bytes).Fields,
            Boundaries = bytes => new DmgAnatomy(bytes).Boundaries,
            Metadata = bytes => new DmgAnatomy(bytes).Structures,
            IsWritable = false,
        },
        Flat("encrcdsa", new EncrCdsaDriver(), AppleSeeds.EncrCdsa, FlatAnatomy.EncrCdsa) with
        {
            Secrets = AppleSeeds.Secrets,
            HasPeer = false,
        },
        Flat("cloop", new CloopDriver(), AppleSeeds.Cloop, FlatAnatomy.Cloop),
        Flat("bochs", new BochsDriver(), AppleSeeds.Bochs, FlatAnatomy.Bochs),
        new("vdi", new VdiDriver())
        {
            Seeds = () =>
            {
                List<SeedImage> seeds = FlatTableSeeds(
                    "vdi", ("", 64 << 10, (1 << 20) + (3 * 512)), ("static=on", 64 << 10, 600 << 10));
                return [.. seeds, ChildSeeds.Vdi(seeds[0])];
            },
            Fields = bytes => FlatTableAnatomy.Vdi(bytes).Fields,
            Boundaries = bytes => FlatTableAnatomy.Vdi(bytes).Boundaries,
            Metadata = bytes => FlatTableAnatomy.Vdi(bytes).Structures,
        },
        new("vpc", new VpcDriver())
        {
            Seeds = () =>
            [
                .. FlatTableSeeds(
                    "vpc", ("force_size=on", 64 << 10, (1 << 20) + 512), ("subformat=fixed", 64 << 10, 300 << 10)),
                ChildSeeds.Vpc(),
            ],
            Fields = bytes => FlatTableAnatomy.Vpc(bytes).Fields,
            Boundaries = bytes => FlatTableAnatomy.Vpc(bytes).Boundaries,
            Metadata = bytes => FlatTableAnatomy.Vpc(bytes).Structures,
            Seal = Seals.Vpc,
        },
        new("parallels", new ParallelsDriver())
        {
            Seeds = ParallelsSeeds,
            Fields = bytes => ParallelsAnatomy(bytes).Fields,
            Boundaries = bytes => ParallelsAnatomy(bytes).Boundaries,
            Metadata = bytes => ParallelsAnatomy(bytes).Structures,
            Seal = Seals.Parallels,
        },
        new("vhdx", new VhdxDriver())
        {
            Seeds = VhdxSeeds.Make,
            Fields = bytes => new VhdxAnatomy(bytes).Fields,
            Boundaries = bytes => new VhdxAnatomy(bytes).Boundaries,
            Metadata = bytes => new VhdxAnatomy(bytes).Structures,
            Seal = VhdxAnatomy.Seal,
        },
        new("qed", new QedDriver())
        {
            Seeds = () => TwoLevelSeeds("qed", "cluster_size=4k,table_size=2"),
            Fields = bytes => new TwoLevelAnatomy(bytes).Fields,
            Boundaries = bytes => new TwoLevelAnatomy(bytes).Boundaries,
            Metadata = bytes => new TwoLevelAnatomy(bytes).Structures,
        },
        new("encrypted qcow", new QcowDriver())
        {
            Seeds = EncryptedQcowSeeds,
            PeerOptions = $"driver=qcow,encrypt.key-secret={LuksImages.SecretId}",
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
        new("luks", new LuksDriver())
        {
            Seeds = LuksSeeds.Both,
            PeerOptions = $"driver=luks,key-secret={LuksImages.SecretId}",
            Fields = bytes => new LuksAnatomy(bytes).Fields,
            Boundaries = bytes => new LuksAnatomy(bytes).Boundaries,
            Metadata = bytes => new LuksAnatomy(bytes).Structures,
        },
        new("luks2 with good checksums", new LuksDriver())
        {
            Seeds = () => [LuksSeeds.Version2()],
            Fields = bytes => new LuksAnatomy(bytes).Fields,
            Boundaries = bytes => new LuksAnatomy(bytes).Boundaries,
            Metadata = bytes => new LuksAnatomy(bytes).Structures,
            Seal = bytes => Luks2Editing.Seal(bytes),
            Peer = LuksSeeds.ReadByCryptsetup,
        },
        new("detached LUKS header", new LuksDriver())
        {
            Seeds = LuksSeeds.Detached,
            Fields = bytes => new LuksAnatomy(bytes).Fields,
            Boundaries = bytes => new LuksAnatomy(bytes).Boundaries,
            Metadata = bytes => new LuksAnatomy(bytes).Structures,
            Seal = bytes => Luks2Editing.Seal(bytes),
            HasPeer = false,
        },
        new("encrypted qcow2", new Qcow2Driver())
        {
            Seeds = EncryptedQcow2Seeds,
            PeerOptions = $"driver=qcow2,encrypt.key-secret={LuksImages.SecretId}",
            Fields = bytes => new Qcow2Anatomy(bytes).Fields,
            Boundaries = bytes => new Qcow2Anatomy(bytes).Boundaries,
            Metadata = bytes => new Qcow2Anatomy(bytes).Structures,
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

    /// <summary>Those that qemu reads too.</summary>
    public static TheoryData<string> NamesWithPeer =>
        [.. All.Where(format => format.HasFields && format.HasPeer).Select(format => format.Name)];

    public static HostileFormat Get(string name) => All.Single(format => format.Name == name);

    private static HostileFormat Flat(
        string name, Core.Graph.BlockDriver driver, Func<IReadOnlyList<SeedImage>> seeds, FlatAnatomy anatomy) =>
        new(name, driver)
        {
            Seeds = seeds,
            Fields = anatomy.FieldsOf,
            Boundaries = anatomy.BoundariesOf,
            Metadata = anatomy.StructuresOf,
            IsWritable = false,
        };

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

    private static List<SeedImage> EncryptedQcowSeeds()
    {
        PeerTool.Require();
        using var dir = new TempDir();
        string path = dir.File("aes");
        LuksImages.Convert(
            dir, "raw", dir.Write("raw", TestPattern.Make(90 << 10, 0, Seed)), "qcow", path,
            $"encrypt.format=aes,encrypt.key-secret={LuksImages.SecretId}");
        return [new SeedImage("qcow aes", File.ReadAllBytes(path))];
    }

    private static List<SeedImage> EncryptedQcow2Seeds()
    {
        PeerTool.Require();
        using var dir = new TempDir();
        string raw = dir.Write("raw", TestPattern.Make(200 << 10, 0, Seed));
        var seeds = new List<SeedImage>();
        foreach ((string name, string options) in ((string, string)[])
            [("luks", "encrypt.format=luks,encrypt.iter-time=10,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc"),
             ("aes", "encrypt.format=aes")])
        {
            string path = dir.File(name);
            LuksImages.Convert(
                dir, "raw", raw, "qcow2", path, $"cluster_size=4k,encrypt.key-secret={LuksImages.SecretId},{options}");
            seeds.Add(new SeedImage($"qcow2 {name}", File.ReadAllBytes(path)));
        }

        return seeds;
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
        List<SeedImage> seeds = [.. kinds.Select(kind =>
        {
            using var scratch = new Scratch();
            QemuImage image = QemuImages.Vmdk(scratch, kind.Item1, kind.Item2, Length, Seed);
            return WithCompanions($"vmdk {kind.Item1}", scratch, image.Path);
        })];

        // What no peer makes. A stream with its directory behind the footer is what VMware's programs make.
        var content = new byte[Length];
        new Random(Seed).NextBytes(content.AsSpan(200_000, 500_000));
        seeds.Add(ChildSeeds.Vmdk());
        seeds.Add(new SeedImage("vmdk stream", MakeStream(content)));
        seeds.Add(new SeedImage("vmdk COWD", EsxImages.Cowd(content, Seed))
        {
            ParentLeftOut = true,
            Wrapper = EsxImages.Descriptor("vmfsSparse", $"RW {Length / 512} VMFSSPARSE \"damaged\""),
        });
        seeds.Add(new SeedImage("vmdk SESPARSE", EsxImages.SeSparse(content, Seed))
        {
            ParentLeftOut = true,
            Wrapper = EsxImages.Descriptor("seSparse", $"RW {Length / 512} SESPARSE \"damaged\""),
        });
        return seeds;
    }

    private static byte[] MakeStream(byte[] content) => Task.Run(async () =>
    {
        using var scratch = new Scratch();
        var source = new BlockNode("source", "memory", new MemoryDisk(content, content.Length));
        await new ImageMaker(TestGraph.Registry).CreateFromAsync(
            "vmdk", scratch["stream.vmdk"], OptionSyntax.ParsePairs("subformat=streamOptimized"), source,
            new CreateRequest());
        return File.ReadAllBytes(scratch["stream.vmdk"]);
    }).GetAwaiter().GetResult();

    private static FlatTableAnatomy ParallelsAnatomy(byte[] bytes) => bytes.AsSpan().StartsWith("With"u8)
        ? FlatTableAnatomy.Parallels(bytes) : FlatTableAnatomy.ParallelsText(bytes);

    /// <summary>An image, one with an extension of nothing, and a bundle of it.</summary>
    private static List<SeedImage> ParallelsSeeds()
    {
        List<SeedImage> seeds = FlatTableSeeds("parallels", ("cluster_size=64k", 64 << 10, (300 << 10) + 512));
        byte[] image = seeds[0].Bytes;
        seeds.Add(ChildSeeds.ParallelsVersion1(seeds[0]));
        byte[] extended = [.. image, .. new byte[64 << 10]];
        Span<byte> cluster = extended.AsSpan(image.Length);
        BitConverter.TryWriteBytes(cluster, 0xab23_4cef_23dc_ea87);
        BitConverter.TryWriteBytes(cluster[24..], 0x2038_5fae_252c_b34a);
        BitConverter.TryWriteBytes(cluster[40..], 40);
        BitConverter.TryWriteBytes(cluster[48..], 601L);
        BitConverter.TryWriteBytes(cluster[72..], 128);
        BitConverter.TryWriteBytes(cluster[76..], 1);
        System.Security.Cryptography.MD5.HashData(cluster[24..], cluster[8..24]);
        BitConverter.TryWriteBytes(extended.AsSpan(56), image.Length / 512L);
        seeds.Add(new SeedImage("parallels with extension", extended));
        const string Id = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
        string descriptor = $"""
            <Parallels_disk_image Version="1.0">
            <Disk_Parameters><Disk_size>601</Disk_size><Padding>0</Padding></Disk_Parameters>
            <StorageData><Storage><Start>0</Start><End>601</End>
            <Image><GUID>{Id}</GUID><Type>Compressed</Type><File>disk.hds</File></Image></Storage></StorageData>
            <Snapshots><Shot><GUID>{Id}</GUID><ParentGUID>{Guid.Empty:B}</ParentGUID></Shot></Snapshots>
            </Parallels_disk_image>
            """;
        seeds.Add(new SeedImage("parallels bundle", System.Text.Encoding.UTF8.GetBytes(descriptor))
        {
            Companions = new Dictionary<string, byte[]> { ["disk.hds"] = image },
        });
        return seeds;
    }

    private static List<SeedImage> FlatTableSeeds(string format, params (string Options, int Unit, long Length)[] kinds)
    {
        PeerTool.Require();
        return [.. kinds.Select(kind =>
        {
            using var scratch = new Scratch();
            QemuImage image = QemuImages.FlatTable(scratch, format, kind.Options, kind.Unit, kind.Length, Seed);
            return WithCompanions($"{format} {kind.Options}", scratch, image.Path);
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
