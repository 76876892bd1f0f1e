using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Formats.Tests.EncrCdsa;

/// <summary>Encrypted images made here, and what is refused.</summary>
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
