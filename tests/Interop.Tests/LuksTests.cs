using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Mounting.Reports;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>LUKS1 with qemu-img and cryptsetup: each reads what the other made and wrote.</summary>
public sealed class LuksTests
{
    private const int Size = (1 << 20) + 7 * 512;

    /// <summary>What QEMU 7.2 has; it knows no 3des here, and fails in ecb and with 192-bit keys.</summary>
    public static TheoryData<string, string> Ciphers => new()
    {
        { "cipher-alg=aes-256,cipher-mode=xts", "sha256" },
        { "cipher-alg=aes-128,cipher-mode=xts,ivgen-alg=plain", "sha1" },
        { "cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=essiv,ivgen-hash-alg=sha256", "sha256" },
        { "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain64", "sha512" },
        { "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain", "sha384" },
        { "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256", "ripemd160" },
        { "cipher-alg=aes-128,cipher-mode=ctr,ivgen-alg=plain64", "sha224" },
        { "cipher-alg=serpent-256,cipher-mode=xts", "sha256" },
        { "cipher-alg=serpent-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256", "sha256" },
        { "cipher-alg=twofish-256,cipher-mode=xts", "sha1" },
        { "cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=plain64", "sha256" },
        { "cipher-alg=cast5-128,cipher-mode=cbc,ivgen-alg=plain64", "sha256" },
        { "cipher-alg=cast5-128,cipher-mode=ctr,ivgen-alg=plain", "sha256" },
    };

    [SkippableTheory]
    [MemberData(nameof(Ciphers))]
    public async Task Image_of_qemu_is_read_described_and_written_and_qemu_reads_that(string cipher, string hash)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, 1);
        string path = dir.File("disk.luks");
        LuksImages.Convert(
            dir, "raw", dir.Write("content.raw", content), "luks", path,
            $"key-secret={LuksImages.SecretId},iter-time=10,hash-alg={hash},{cipher}");
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            Assert.Equal("luks", graph.Root.Driver);
            await LuksImages.AssertContentAsync(graph.Root, content, cipher);
            await AssertSameInfoAsync(graph, path);
            await ScribbleAsync(graph.Root, content, 2);
        }

        TestPattern.AssertEqual(content, LuksImages.ReadByQemu(dir, "luks", path), 0, $"{cipher}, by qemu");
    }

    [SkippableTheory]
    [MemberData(nameof(Ciphers))]
    public async Task Image_of_ours_is_read_and_written_by_qemu(string cipher, string hash)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, 3);
        string path = dir.File("disk.luks");
        await LuksImages.CreateAsync(
            path, "luks", $"{LuksImages.Cheap},key-secret={LuksImages.SecretId},hash-alg={hash},{cipher}", content);
        TestPattern.AssertEqual(content, LuksImages.ReadByQemu(dir, "luks", path), 0, $"{cipher}, by qemu");
        Qemu.Succeed(
            "qemu-io", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}", "--image-opts",
            "-c", "write -q -P 7 3k 200k", LuksImages.Source("luks", path));
        content.AsSpan(3 << 10, 200 << 10).Fill(7);
        await using Graph graph = await LuksImages.OpenAsync(path);
        await AssertSameInfoAsync(graph, path);
        await LuksImages.AssertContentAsync(graph.Root, content, "written by qemu");
    }

    [SkippableTheory]
    [InlineData("aes-xts-plain64", "512", "sha256")]
    [InlineData("aes-xts-plain64", "256", "sha1")]
    [InlineData("aes-cbc-essiv:sha256", "256", "ripemd160")]
    [InlineData("aes-cbc-plain64", "128", "sha512")]
    [InlineData("aes-xts-plain64", "512", "sha224")]
    [InlineData("aes-xts-plain64", "512", "whirlpool")]
    public async Task Header_of_cryptsetup_is_opened_and_its_payload_agrees_with_qemu(string cipher, string bits, string hash)
    {
        using var dir = new TempDir();
        string path = dir.WriteSparse("disk.luks", 5 << 20);
        LuksImages.Cryptsetup(
            "luksFormat", "--type", "luks1", "--cipher", cipher, "-s", bits, "--hash", hash, "--pbkdf-force-iterations",
            "1000", "--key-file", LuksImages.KeyFile(dir), path);
        byte[] content;
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            content = await LuksImages.ReadAllAsync(graph.Root);
            await ScribbleAsync(graph.Root, content, 5);
        }

        Assert.True(LuksImages.CryptsetupOpens(dir, path));
        if (hash != "whirlpool")
        {
            TestPattern.AssertEqual(content, LuksImages.ReadByQemu(dir, "luks", path), 0, "by qemu");
        }
    }

    [SkippableTheory]
    [InlineData("")]
    [InlineData("cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1")]
    [InlineData("cipher-alg=aes-128,cipher-mode=xts,hash-alg=ripemd160")]
    [InlineData("cipher-alg=aes-192,cipher-mode=cbc,hash-alg=sha224")]
    [InlineData("cipher-alg=aes-256,cipher-mode=ecb,hash-alg=sha512")]
    [InlineData("cipher-alg=aes-256,cipher-mode=ctr")]
    public async Task Image_of_ours_opens_in_cryptsetup(string options)
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(64 << 10, 0, 1);
        await LuksImages.CreateAsync(path, "luks", $"{LuksImages.Cheap},{options}".TrimEnd(','), content);
        Assert.Contains("Version:       	1", LuksImages.Cryptsetup("luksDump", path), StringComparison.Ordinal);
        Assert.True(LuksImages.CryptsetupOpens(dir, path));
        Assert.False(LuksImages.CryptsetupOpens(dir, path, "wrong"));
        await using Graph graph = await LuksImages.OpenAsync(path);
        Assert.Equal(content, await LuksImages.ReadAllAsync(graph.Root));
    }

    [SkippableTheory]
    [InlineData("1")]
    [InlineData("2")]
    public async Task Detached_header_of_cryptsetup(string version)
    {
        using var dir = new TempDir();
        string data = dir.WriteSparse("data.img", 1 << 20);
        string header = dir.WriteSparse("header.img", version == "1" ? 4 << 20 : 16 << 20);
        LuksImages.Cryptsetup([
            "luksFormat", "--type", $"luks{version}", "--header", header, .. LuksImages.CheapForCryptsetup, "--key-file",
            LuksImages.KeyFile(dir), data]);
        string options = $"driver=luks,file.filename={data},header.file.filename={header}";
        byte[] content = TestPattern.Make(1 << 20, 0, 4);
        await using (Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.Parser.ParseImageOptions(options), LuksImages.Flags(writable: true)))
        {
            Assert.Equal(1 << 20, graph.Root.Length);
            await graph.Root.WriteAsync(0, content);
        }

        Assert.Equal(1 << 20, new FileInfo(data).Length);
        Assert.NotEqual(content, File.ReadAllBytes(data));
        await using Graph again = await TestGraph.Opener.OpenAsync(
            TestGraph.Parser.ParseImageOptions(options), LuksImages.Flags());
        await LuksImages.AssertContentAsync(again.Root, content, "again");
        if (version == "2")
        {
            // cryptsetup itself decrypts the payload in place, and leaves a plain disk.
            LuksImages.Cryptsetup(
                "reencrypt", "--decrypt", "--force-offline-reencrypt", "--key-file", LuksImages.KeyFile(dir), "--header",
                header, data);
            TestPattern.AssertEqual(content, File.ReadAllBytes(data), 0, "decrypted by cryptsetup");
        }
    }

    [SkippableFact]
    public async Task Wrong_passphrase_and_missing_one_are_told_apart()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        await LuksImages.CreateAsync(path, "luks", LuksImages.Cheap, 1 << 20);
        BlockException wrong = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.Opener.OpenAsync(
            TestGraph.ForFile(path), new OpenFlags { Secrets = LuksImages.With("nonsense") }));
        Assert.Equal(BlockErrorKind.PermissionDenied, wrong.Kind);
        Assert.DoesNotContain("nonsense", wrong.ToString(), StringComparison.Ordinal);
        BlockException none = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.Opener.OpenAsync(TestGraph.ForFile(path), new OpenFlags()));
        Assert.Equal(BlockErrorKind.PermissionDenied, none.Kind);
        Assert.Contains("--passphrase-file", none.Hint, StringComparison.Ordinal);
    }

    internal static async Task ScribbleAsync(BlockNode disk, byte[] model, int seed)
    {
        var random = new Random(seed);
        for (int i = 0; i < 60; i++)
        {
            int at = random.Next(model.Length);
            int count = Math.Min(random.Next(1, random.Next(2) == 0 ? 3000 : 200_000), model.Length - at);
            if (random.Next(2) == 0)
            {
                at &= -512;
            }

            TestPattern.Fill(model.AsSpan(at, count), at, seed + i);
            await disk.WriteAsync(at, model.AsMemory(at, count));
        }
    }

    private static async Task AssertSameInfoAsync(Graph graph, string path)
    {
        DeviceInfo info = await InfoReport.DescribeAsync(graph.Image, CancellationToken.None);
        using JsonDocument ours = JsonDocument.Parse(ReportJson.Make(json => InfoReport.Write(json, info)));
        using JsonDocument theirs = JsonDocument.Parse(
            Qemu.Img("info", "-U", "-f", "luks", "--output=json", path));
        foreach (string key in (string[])["encrypted", "virtual-size", "format", "format-specific"])
        {
            Assert.True(
                JsonElement.DeepEquals(
                    theirs.RootElement.GetProperty(key), ours.RootElement.GetProperty(key)),
                $"{key}: qemu {theirs.RootElement.GetProperty(key)}, ours {ours.RootElement.GetProperty(key)}");
        }
    }
}
