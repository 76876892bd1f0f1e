using ImageMount.Formats.Luks;
using ImageMount.Formats.Qcow2;
using ImageMount.Formats.Raw;
using ImageMount.Formats.Vmdk;
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
        new("luks", new LuksDriver())
        {
            Seeds = LuksSeeds,
            PeerOptions = $"driver=luks,key-secret={LuksImages.SecretId}",
            Fields = bytes => new LuksAnatomy(bytes).Fields,
            Boundaries = bytes => new LuksAnatomy(bytes).Boundaries,
            Metadata = bytes => new LuksAnatomy(bytes).Structures,
        },
        new("luks2 with good checksums", new LuksDriver())
        {
            Seeds = () => [Luks2Seed()],
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

    public static TheoryData<string> NamesWithPeer =>
        [.. All.Where(format => format is { HasFields: true, HasPeer: true }).Select(format => format.Name)];

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

    private static List<SeedImage> LuksSeeds()
    {
        PeerTool.Require();
        using var dir = new TempDir();
        string raw = dir.Write("raw", TestPattern.Make(64 << 10, 0, Seed));
        string path = dir.File("luks1");
        LuksImages.Convert(
            dir, "raw", raw, "luks", path,
            $"key-secret={LuksImages.SecretId},iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain64");
        return [new SeedImage("luks1", File.ReadAllBytes(path)), Luks2Seed()];
    }

    private static SeedImage Luks2Seed()
    {
        using var dir = new TempDir();
        string path = dir.WriteSparse("luks2", 640 << 10);
        LuksImages.Cryptsetup(
            "luksFormat", "--type", "luks2", "-s", "256", "--luks2-keyslots-size", "256k", "--offset", "1024", "--pbkdf",
            "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--key-file", LuksImages.KeyFile(dir), path);
        return new SeedImage("luks2", File.ReadAllBytes(path));
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
        return [.. kinds.Select(kind =>
        {
            using var scratch = new Scratch();
            QemuImage image = QemuImages.Vmdk(scratch, kind.Item1, kind.Item2, Length, Seed);
            return WithCompanions($"vmdk {kind.Item1}", scratch, image.Path);
        })];
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
