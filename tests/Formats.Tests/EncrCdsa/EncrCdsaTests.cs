using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Formats.Tests.EncrCdsa;

/// <summary>Encrypted images made here, keys that macOS made, and what is refused.</summary>
public sealed class EncrCdsaTests
{
    private static OpenFlags With(string? passphrase)
    {
        var secrets = new SecretStore();
        if (passphrase is not null)
        {
            secrets.Default = new Secret(Encoding.UTF8.GetBytes(passphrase));
        }

        return new OpenFlags { Secrets = secrets };
    }

    private static ValueTask<Graph> OpenAsync(byte[] image, string? passphrase) => TestGraph.Opener.OpenOverAsync(
        "encrcdsa", new BlockNode("test.dmg", "memory", new MemoryDevice(image)), With(passphrase));

    [Theory]
    [InlineData(128, 512, true, 70_001)]
    [InlineData(256, 4096, true, 4 << 20)]
    [InlineData(256, 512, false, 99_999)]
    [InlineData(128, 65536, false, 65_536 * 3 + 17)]
    [InlineData(128, 512, true, 5)]
    public async Task Content_is_decrypted_at_every_alignment(int keyBits, int chunk, bool whole, int length)
    {
        byte[] content = TestPattern.Make(length, 0, length);
        var writer = new EncrCdsaWriter { KeyBits = keyBits, ChunkSize = chunk, HasWholeChunks = whole };
        await using Graph graph = await OpenAsync(writer.Build(content), writer.Passphrase);
        await DiskReads.AssertAsync(graph.Root, content, $"AES-{keyBits}, chunks of {chunk}");
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.True(info.Encrypted);
        Assert.Contains(info.FormatSpecific, fact => fact.Key == "cipher" && (string)fact.Value == $"aes-{keyBits}-cbc");
    }

    [Fact]
    public async Task Udif_image_inside_is_opened_on_top()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(777 * 512, 0, 5);
        var writer = new EncrCdsaWriter();
        string path = dir.Write("secret.dmg", writer.Build(new DmgWriter().Build(content)));
        OptionMap image = TestGraph.Parser.ParseImageOptions(
            $"driver=dmg,file.driver=encrcdsa,file.key-secret=mine,file.file.filename={path}");
        OpenFlags flags = With(null);
        flags.Secrets.Add("mine", new Secret(Encoding.UTF8.GetBytes(writer.Passphrase)));
        await using Graph graph = await TestGraph.Opener.OpenAsync(image, flags);
        await DiskReads.AssertAsync(graph.Root, content, "UDIF, encrypted");
        await DiskReads.AssertCleanAsync(graph, "UDIF, encrypted");
    }

    [Theory]
    [InlineData("wrong", BlockErrorKind.PermissionDenied)]
    [InlineData("", BlockErrorKind.PermissionDenied)]
    [InlineData(null, BlockErrorKind.PermissionDenied)]
    public async Task Wrong_or_missing_passphrase_is_refused(string? passphrase, BlockErrorKind kind)
    {
        byte[] image = new EncrCdsaWriter().Build(new byte[10_000]);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image, passphrase));
        Assert.Equal(kind, e.Kind);
    }

    /// <summary>
    /// Key blobs, vectors, salts and the start of chunk 1 (the GPT header) of images that macOS 10.13 made; published as
    /// test vectors of John the Ripper.
    /// </summary>
    [Theory]
    [MemberData(nameof(Vectors))]
    public async Task Key_of_macos_opens_its_chunk(
        int keyBits, string passphrase, int iterations, string salt, string iv, string blob, string chunk)
    {
        var template = new EncrCdsaWriter { KeyBits = keyBits };
        byte[] image = template.Build(new byte[1024]);
        const int Key = 0x400;
        BinaryPrimitives.WriteInt32BigEndian(image.AsSpan(Key + 8), iterations);
        Convert.FromHexString(salt).CopyTo(image, Key + 16);
        Convert.FromHexString(iv).CopyTo(image, Key + 52);
        Convert.FromHexString(blob).CopyTo(image, Key + 104);
        byte[] encrypted = Convert.FromHexString(chunk);
        encrypted.CopyTo(image, EncrCdsaWriter.DataOffset + 512);
        await using Graph graph = await OpenAsync(image, passphrase);
        byte[] found = new byte[encrypted.Length];
        await graph.Root.ReadAsync(512, found);
        byte[] expected = [.. "EFI PART"u8, 0, 0, 1, 0, 0x5c, 0, 0, 0];
        Assert.Equal(expected, found[..16]);
        Assert.Equal([1, 0, 0, 0, 0, 0, 0, 0], found[24..32]); // The header's own sector.
    }

    public static TheoryData<int, string, int, string, string, string, string> Vectors => new()
    {
        {
            128, "openwall", 263157, "d7af39b1565a4de54c614867ffd6d1c8c54339b3",
            "24b860af719a4997",
            "571781caae23af5e88bd1255d17f2affd7e448c8ec3ddb79ffd6bf8b959d20224a302d30acdf619bcee61c064ac72657",
            "9203ff2fdcba33560703bf94e696841412c381f53f48cd7f4372297f721c339a"
        },
        {
            256, "openwall123", 294117, "884f164bcb22763d51b514f4fb47beee67f7848d",
            "107465ab13cabc37",
            "4eb95e77bdd06a63e5ace4c6912e602969cf6d084f064bb803d20530585752aa941cb26f5b4e01471eb8b4cacb6dc11f"
            + "89e9f03af66da6ca2aaf3febf7623335",
            "9cc4531d1277adaa26d4370a15b4d1b662e6551aff5a785260ac725617c301d9"
        },
    };

    [Theory]
    [InlineData(8, 1u, BlockErrorKind.NotSupported)]
    [InlineData(12, 8u, BlockErrorKind.NotSupported)]
    [InlineData(20, 17u, BlockErrorKind.NotSupported)]
    [InlineData(24, 192u, BlockErrorKind.NotSupported)]
    [InlineData(52, 513u, BlockErrorKind.InvalidData)]
    [InlineData(52, 131072u, BlockErrorKind.InvalidData)]
    [InlineData(56, 0x7fffffffu, BlockErrorKind.InvalidData)]
    [InlineData(72, 0u, BlockErrorKind.NotSupported)]
    [InlineData(72, 65u, BlockErrorKind.LimitExceeded)]
    [InlineData(100, 9u, BlockErrorKind.InvalidData)]
    [InlineData(0x400, 1u, BlockErrorKind.NotSupported)]
    [InlineData(0x408, 0xffffffffu, BlockErrorKind.LimitExceeded)]
    [InlineData(0x40c, 33u, BlockErrorKind.InvalidData)]
    [InlineData(0x430, 7u, BlockErrorKind.InvalidData)]
    [InlineData(0x458, 18u, BlockErrorKind.NotSupported)]
    [InlineData(0x464, 0x10000u, BlockErrorKind.InvalidData)]
    public async Task Impossible_number_is_refused(int at, uint value, BlockErrorKind kind)
    {
        var writer = new EncrCdsaWriter();
        byte[] image = writer.Build(new byte[10_000]);
        BinaryPrimitives.WriteUInt32BigEndian(image.AsSpan(at), value);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await OpenAsync(image, writer.Passphrase));
        Assert.True(e.Kind == kind, e.Describe());
    }

    [Fact]
    public async Task Version_1_is_refused_by_name()
    {
        byte[] image = [.. new byte[4096], .. "cdsaencr"u8];
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.Opener.OpenOverAsync(
                null, new BlockNode("old.dmg", "memory", new MemoryDevice(image)), With("x")));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains("version 1", e.Describe(), StringComparison.Ordinal);
    }
}
