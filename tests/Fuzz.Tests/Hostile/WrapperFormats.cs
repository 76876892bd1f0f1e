using ImageMount.Core.Graph;
using ImageMount.Formats.Compressed.Bzip2;
using ImageMount.Formats.Compressed.Gzip;
using ImageMount.Formats.Compressed.Xz;
using ImageMount.Formats.Compressed.Zstd;
using ImageMount.Formats.Tar;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Compressed files and archives under attack; their own tools are the peers.</summary>
internal static class WrapperFormats
{
    private const string Member = "folder/disk.img";

    public static IEnumerable<HostileFormat> All =>
    [
        Make("gzip", new GzipDriver(), GzipSeeds, "gzip -dc", WrapperAnatomy.Gzip),
        Make("xz", new XzDriver(), XzSeeds, "xz -dc", WrapperAnatomy.Xz),
        Make("bzip2", new Bzip2Driver(), Bzip2Seeds, "bzip2 -dc", WrapperAnatomy.Bzip2),
        Make("zstd", new ZstdDriver(), ZstdSeeds, "zstd -dc", WrapperAnatomy.Zstd),
        Make("tar", new TarDriver(), TarSeeds, $"tar -xO {Member} -f -", WrapperAnatomy.Tar),
    ];

    private static HostileFormat Make(
        string name, BlockDriver driver, Func<IReadOnlyList<SeedImage>> seeds, string peer,
        Func<byte[], WrapperAnatomy> anatomy) => new(name, driver)
        {
            Seeds = seeds,
            Fields = bytes => anatomy(bytes).Fields,
            Boundaries = bytes => anatomy(bytes).Boundaries,
            Metadata = bytes => anatomy(bytes).Structures,
            Seal = name switch { "gzip" => Seals.Gzip, "xz" => Seals.Xz, "tar" => Seals.Tar, _ => null },
            EveryByteIsChecked = name is "xz" or "bzip2",
            Peer = (path, flat) => Qemu.Run("sh", "-c", $"{peer} < '{path}' > '{flat}'").ExitCode == 0,
        };

    private static byte[] Content(int length)
    {
        byte[] content = TestPattern.Make(length, 0, length);
        for (int at = 0; at < length; at += 3000)
        {
            content.AsSpan(at, Math.Min(1000 + (at / 5), length - at)).Fill((byte)(at >> 13));
        }

        return content;
    }

    private static List<SeedImage> GzipSeeds() =>
    [
        new("two members", [.. Pack.Gzip(Content(40_000)), .. Pack.Gzip(Content(9_000))]),
        new("bgzf", Pack.Bgzf(Content(20_000), 7000)),
        new("every field", EveryField(Pack.Gzip(Content(9_000)))),
    ];

    /// <summary>A member with a subfield that nobody knows, a name, a remark and a checksum of the header.</summary>
    private static byte[] EveryField(byte[] member)
    {
        byte[] packed =
        [
            .. member[..3], 2 | 4 | 8 | 16, .. member[4..10], 8, 0, (byte)'x', (byte)'y', 4, 0, 1, 2, 3, 4,
            .. "name\0"u8, .. "remark\0"u8, 0, 0, .. member[10..],
        ];
        Seals.Gzip(packed);
        return packed;
    }

    private static List<SeedImage> XzSeeds() =>
    [
        new("blocks", Pack.Bytes(Content(50_000), "xz", ".xz", "-0", "--block-size=20000")),
        new("streams", [.. Pack.Bytes(Content(9_000), "xz", ".xz", "-0", "--check=crc32"), .. new byte[4],
            .. Pack.Bytes(Content(100), "xz", ".xz", "-0", "--check=sha256")]),
    ];

    private static List<SeedImage> Bzip2Seeds() =>
    [
        new("blocks", Pack.Bytes(Content(150_000), "bzip2", ".bz2", "-1")),
        new("streams", [.. Pack.Bytes(Content(5_000), "bzip2", ".bz2"), .. Pack.Bytes(Content(70), "bzip2", ".bz2")]),
    ];

    private static List<SeedImage> ZstdSeeds() =>
    [
        new("frames", [.. Pack.Bytes(Content(40_000), "zstd", ".zst"), .. Pack.Bytes(Content(300), "zstd", ".zst")]),
        new("no size", Pack.Bytes(Content(40_000), "zstd", ".zst", "--no-content-size")),
        new("seekable", Seekable(Pack.Bytes(Content(30_000), "zstd", ".zst"), 30_000)),
    ];

    private static byte[] Seekable(byte[] frame, int length) =>
    [
        .. frame, .. Le32(0x184d2a5e), .. Le32(17), .. Le32((uint)frame.Length), .. Le32((uint)length), .. Le32(1), 0,
        .. Le32(0x8f92eab1),
    ];

    private static byte[] Le32(uint value) =>
        [(byte)value, (byte)(value >> 8), (byte)(value >> 16), (byte)(value >> 24)];

    private static List<SeedImage> TarSeeds() => [.. ((string[])["gnu", "posix", "ustar"]).Select(format =>
    {
        using var dir = new TempDir();
        string longName = new('n', format == "ustar" ? 90 : 150);
        Directory.CreateDirectory(dir.File("folder"));
        dir.Write(longName, "text"u8);
        dir.Write(Member, Content(20_000));
        string path = Pack.Tar(dir.File("a.tar"), dir.Path, [longName, Member], $"--format={format}");
        return new SeedImage(format, File.ReadAllBytes(path));
    })];
}
