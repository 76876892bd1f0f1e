using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// LUKS2 with cryptsetup, which encrypts and decrypts payload without the kernel's help by its offline reencryption.
/// </summary>
public sealed class Luks2Tests
{
    private const int Size = 1 << 20;

    public static TheoryData<string[]> Formats =>
    [
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha512", "--sector-size", "4096"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "ripemd160", "-s", "256"],
        ["--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--sector-size", "1024"],
        ["--pbkdf", "argon2i", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32"],
        ["--pbkdf", "argon2id", "--pbkdf-force-iterations", "5", "--pbkdf-memory", "1000", "--pbkdf-parallel", "1"],
        ["--pbkdf", "argon2i", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "4096", "--pbkdf-parallel", "2"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-cbc-essiv:sha256", "-s", "256"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-cbc-plain", "-s", "192", "--hash", "sha1"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-ctr-plain64", "-s", "192", "--hash", "sha384"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-ecb", "-s", "256", "--hash", "sha224"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-xts-essiv:sha256", "-s", "256"],
        ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--luks2-metadata-size", "64k", "--luks2-keyslots-size", "2M"],
    ];

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public async Task Disk_that_cryptsetup_encrypted_is_read_and_written_and_cryptsetup_decrypts_that(string[] format)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, 1);
        string path = dir.Write("disk.img", content);
        using (FileStream file = File.OpenWrite(path))
        {
            file.SetLength(Size + (32 << 20));
        }

        string name = string.Join(' ', format);
        LuksImages.Cryptsetup([
            "reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "32M", "--key-file",
            LuksImages.KeyFile(dir), .. format, path]);
        byte[] model;
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            Assert.Empty(graph.Warnings);
            model = await LuksImages.ReadAllAsync(graph.Root);
            TestPattern.AssertEqual(content, model.AsSpan(0, Size), 0, name);
            await LuksTests.ScribbleAsync(graph.Root, model, 7);
            await graph.Root.WriteAsync(0, model.AsMemory(0, 8192));
        }

        LuksImages.Cryptsetup(
            "reencrypt", "--decrypt", "--force-offline-reencrypt", "--key-file", LuksImages.KeyFile(dir), "--header",
            dir.File("header.img"), path);
        byte[] plain = File.ReadAllBytes(path);
        TestPattern.AssertEqual(model, plain.AsSpan(0, model.Length), 0, $"{name}, decrypted by cryptsetup");
    }

    [SkippableTheory]
    [InlineData("pbkdf=pbkdf2,pbkdf-force-iterations=1000")]
    [InlineData("pbkdf=argon2i,pbkdf-force-iterations=4,pbkdf-memory=64")]
    [InlineData("pbkdf-force-iterations=4,pbkdf-memory=100,sector-size=4096,label=backup")]
    [InlineData("pbkdf=pbkdf2,pbkdf-force-iterations=1000,hash-alg=sha512,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv")]
    [InlineData("pbkdf=pbkdf2,pbkdf-force-iterations=1000,hash-alg=ripemd160,sector-size=2048")]
    public async Task Disk_of_ours_is_opened_dumped_and_decrypted_by_cryptsetup(string options)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, 3);
        string path = dir.File("disk.luks");
        await LuksImages.CreateAsync(path, "luks", $"version=2,{options}", content);
        string dump = LuksImages.Cryptsetup("luksDump", path);
        Assert.Contains("Version:       	2", dump, StringComparison.Ordinal);
        Assert.DoesNotContain("label=", dump, StringComparison.Ordinal);
        Assert.True(LuksImages.CryptsetupOpens(dir, path));
        Assert.False(LuksImages.CryptsetupOpens(dir, path, "wrong"));
        LuksImages.Cryptsetup(
            "reencrypt", "--decrypt", "--force-offline-reencrypt", "--key-file", LuksImages.KeyFile(dir), "--header",
            dir.File("header.img"), path);
        TestPattern.AssertEqual(content, File.ReadAllBytes(path).AsSpan(0, Size), 0, options);
    }

    [SkippableTheory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task One_damaged_copy_of_the_header_is_made_up_for_by_the_other(int copy)
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 3);
        await LuksImages.CreateAsync(path, "luks", $"version=2,{LuksImages.CheapArgon}", content);
        foreach (int at in (int[])[9, 20, 300, 450, 4096 + 20])
        {
            byte[] bytes = File.ReadAllBytes(path);
            bytes[copy * (16 << 10) + at] ^= 0x40;
            string damaged = dir.Write("damaged.luks", bytes);
            await using Graph graph = await LuksImages.OpenAsync(damaged);
            Assert.Single(graph.Warnings);
            await LuksImages.AssertContentAsync(graph.Root, content, $"byte {at}");
            CheckReport report = await ((ICheckable)graph.Root.Device).CheckAsync(CancellationToken.None);
            Assert.Equal(1, report.Corruptions);
        }
    }

    [SkippableFact]
    public async Task First_copy_that_is_overwritten_altogether_is_made_up_for_when_the_format_is_named()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 3);
        await LuksImages.CreateAsync(path, "luks", $"version=2,{LuksImages.CheapArgon}", content);
        byte[] bytes = File.ReadAllBytes(path);
        bytes.AsSpan(0, 4096).Clear();
        await using Graph graph = await LuksImages.OpenAsync(dir.Write("damaged.luks", bytes), format: "luks");
        Assert.Single(graph.Warnings);
        await LuksImages.AssertContentAsync(graph.Root, content, "second copy");
    }

    [SkippableFact]
    public async Task Reencryption_in_progress_is_refused_by_name()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        await LuksImages.CreateAsync(path, "luks", $"version=2,{LuksImages.CheapArgon}", Size);
        LuksImages.Cryptsetup(
            "reencrypt", "--init-only", "--force-offline-reencrypt", "--key-file", LuksImages.KeyFile(dir), "--pbkdf",
            "pbkdf2", "--pbkdf-force-iterations", "1000", path);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await LuksImages.OpenAsync(path));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains("reencrypt", e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"type\":\"crypt\"", "\"type\":\"linear\"", "linear")]
    [InlineData("\"sector_size\"", "\"integrity\":{\"type\":\"hmac(sha256)\"},\"sector_size\"", "hmac(sha256)")]
    [InlineData("\"json_size\"", "\"requirements\":{\"mandatory\":[\"quantum\"]},\"json_size\"", "quantum")]
    [InlineData("\"encryption\":\"aes-xts-plain64\",\"sector_size\"", "\"encryption\":\"cipher_null-ecb\",\"sector_size\"", "cipher_null")]
    [InlineData("\"argon2id\"", "\"scrypt\"", "scrypt")]
    public async Task What_is_not_supported_is_refused_by_name(string find, string replace, string name)
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        await LuksImages.CreateAsync(path, "luks", $"version=2,{LuksImages.CheapArgon}", Size);
        Luks2Editing.Change(path, json => json.Replace(find, replace, StringComparison.Ordinal));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await LuksImages.OpenAsync(path));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains(name, e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Several_segments_with_their_own_tweaks_are_one_disk()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 5);
        await LuksImages.CreateAsync(path, "luks", $"version=2,{LuksImages.CheapArgon}", content);

        // The same sectors in another order: the second half first, so its tweak is what its sectors were encrypted with.
        const long Half = Size / 2;
        Luks2Editing.Change(path, json => json
            .Replace("\"size\":\"dynamic\",\"iv_tweak\":\"0\"", $"\"size\":\"{Half}\",\"iv_tweak\":\"{Half / 512}\"", StringComparison.Ordinal)
            .Replace("\"offset\":\"16777216\"", $"\"offset\":\"{16777216 + Half}\"", StringComparison.Ordinal)
            .Replace("\"segments\":{", "\"segments\":{\"1\":{\"type\":\"crypt\",\"offset\":\"16777216\",\"size\":\"dynamic\","
                + "\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\",\"sector_size\":512},", StringComparison.Ordinal)
            .Replace("\"segments\":[\"0\"]", "\"segments\":[\"0\",\"1\"]", StringComparison.Ordinal));
        await using Graph graph = await LuksImages.OpenAsync(path, writable: true);
        Assert.Equal(Size + Half, graph.Root.Length);
        byte[] disk = await LuksImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(content.AsSpan((int)Half), disk.AsSpan(0, (int)Half), 0, "first segment");
        TestPattern.AssertEqual(content, disk.AsSpan((int)Half), 0, "second segment");
        byte[] across = TestPattern.Make(100_000, 0, 8);
        await graph.Root.WriteAsync(Half - 33_333, across);
        var found = new byte[across.Length];
        await graph.Root.ReadAsync(Half - 33_333, found);
        Assert.Equal(across, found);
    }
}
