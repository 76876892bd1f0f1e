using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Passphrases added and removed by us and by the peers: each sees what the other did.</summary>
public sealed class LuksKeySlotTests
{
    private const int Size = 64 << 10;
    internal const string Second = "second passphrase";

    public static TheoryData<string> Versions =>
    [
        $"version=1,{LuksImages.Cheap}",
        $"version=2,{LuksImages.CheapArgon}",
        $"version=2,pbkdf=pbkdf2,{LuksImages.Cheap}",
    ];

    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task Added_passphrase_opens_and_removed_one_does_not(string options)
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 1);
        await LuksImages.CreateAsync(path, "luks", options, content);
        string cheap = options.Contains("pbkdf-memory", StringComparison.Ordinal) ? LuksImages.CheapArgon : LuksImages.Cheap;
        await AmendAsync(path, $"state=active,new-secret=second,{cheap}");
        Assert.True(LuksImages.CryptsetupOpens(dir, path));
        Assert.True(LuksImages.CryptsetupOpens(dir, path, Second));
        await AssertOpensAsync(path, Second, content);

        await AmendAsync(path, $"state=inactive,old-secret={LuksImages.SecretId}");
        Assert.False(LuksImages.CryptsetupOpens(dir, path));
        Assert.True(LuksImages.CryptsetupOpens(dir, path, Second));
        await AssertOpensAsync(path, Second, content);
        await Assert.ThrowsAsync<BlockException>(async () => await LuksImages.OpenAsync(path));

        BlockException last = await Assert.ThrowsAsync<BlockException>(
            () => AmendAsync(path, "state=inactive,keyslot=1", Second));
        Assert.Contains("last passphrase", last.Message, StringComparison.Ordinal);
        await AssertOpensAsync(path, Second, content);
        await AmendAsync(path, "state=inactive,keyslot=1", Second, force: true);
        Assert.False(LuksImages.CryptsetupOpens(dir, path, Second));
    }

    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task All_slots_fill_up_and_each_opens(string options)
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 1);
        await LuksImages.CreateAsync(path, "luks", options, content);
        string cheap = options.Contains("pbkdf-memory", StringComparison.Ordinal) ? LuksImages.CheapArgon : LuksImages.Cheap;
        foreach (int slot in (int[])[6, 7, 1, 2, 5, 4, 3])
        {
            await AmendAsync(path, $"state=active,new-secret=slot{slot},keyslot={slot},{cheap}");
        }

        BlockException used = await Assert.ThrowsAsync<BlockException>(
            () => AmendAsync(path, $"state=active,new-secret=second,keyslot=4,{cheap}"));
        Assert.Contains("in use", used.Message, StringComparison.Ordinal);
        if (options.StartsWith("version=1", StringComparison.Ordinal))
        {
            BlockException full = await Assert.ThrowsAsync<BlockException>(
                () => AmendAsync(path, $"state=active,new-secret=second,{cheap}"));
            Assert.Equal(BlockErrorKind.NoSpace, full.Kind);
        }

        foreach (int slot in (int[])[1, 6, 7])
        {
            Assert.True(LuksImages.CryptsetupOpens(dir, path, $"passphrase {slot}"));
            await AssertOpensAsync(path, $"passphrase {slot}", content);
        }
    }

    [SkippableTheory]
    [InlineData("luks1")]
    [InlineData("luks2")]
    public async Task What_cryptsetup_adds_and_removes_we_see(string type)
    {
        using var dir = new TempDir();
        string path = dir.WriteSparse("disk.luks", 20 << 20);
        string key = LuksImages.KeyFile(dir);
        LuksImages.Cryptsetup(["luksFormat", "--type", type, .. LuksImages.CheapForCryptsetup, "--key-file", key, path]);
        LuksImages.Cryptsetup(
            ["luksAddKey", .. LuksImages.CheapForCryptsetup, "--key-file", key, path, LuksImages.KeyFile(dir, Second)]);
        await using (Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.ForFile(path), new OpenFlags { Secrets = LuksImages.With(Second) }))
        {
            Assert.Equal("luks", graph.Root.Driver);
        }

        LuksImages.Cryptsetup("luksKillSlot", "--key-file", LuksImages.KeyFile(dir, Second), path, "0");
        await Assert.ThrowsAsync<BlockException>(async () => await LuksImages.OpenAsync(path));

        // And on: the slot that cryptsetup emptied is filled by us.
        await AmendAsync(path, $"state=active,new-secret={LuksImages.SecretId},keyslot=0,{LuksImages.Cheap}", Second);
        Assert.True(LuksImages.CryptsetupOpens(dir, path));
        await (await LuksImages.OpenAsync(path)).CloseAsync();
    }

    [SkippableFact]
    public async Task Qemu_amends_what_we_amended()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 1);
        await LuksImages.CreateAsync(path, "luks", LuksImages.Cheap, content);
        await AmendAsync(path, $"state=active,new-secret=second,{LuksImages.Cheap}");
        LuksImages.RetryImg(
            "amend", "--object", $"secret,id=key,file={LuksImages.KeyFile(dir, Second)}", "--object",
            $"secret,id=third,data=third", "-o", "state=active,new-secret=third,iter-time=10", "--image-opts",
            LuksImages.Source("luks", path));
        await AssertOpensAsync(path, "third", content);
        LuksImages.RetryImg(
            "amend", "--object", $"secret,id=key,file={LuksImages.KeyFile(dir, Second)}", "-o", "state=inactive,keyslot=0",
            "--image-opts", LuksImages.Source("luks", path));
        await Assert.ThrowsAsync<BlockException>(async () => await LuksImages.OpenAsync(path));
        await AssertOpensAsync(path, Second, content);
    }

    [SkippableFact]
    public async Task Slots_of_qcow2()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.qcow2");
        byte[] content = TestPattern.Make(256 << 10, 0, 1);
        await LuksImages.CreateAsync(
            path, "qcow2", "encrypt.format=luks,encrypt.pbkdf-force-iterations=1000,cluster_size=4k", content);
        await AmendAsync(path, "encrypt.state=active,encrypt.new-secret=second,encrypt.pbkdf-force-iterations=1000");
        await AmendAsync(path, "encrypt.state=inactive,encrypt.keyslot=0");
        await AssertOpensAsync(path, Second, content);
        await Assert.ThrowsAsync<BlockException>(async () => await LuksImages.OpenAsync(path));
        LuksImages.CheckByQemu(dir, path, Second);
    }

    internal static async Task AmendAsync(string path, string options, string? passphrase = null, bool force = false)
    {
        SecretStore secrets = LuksImages.Secrets([
            ("second", Second), .. Enumerable.Range(1, 7).Select(i => ($"slot{i}", $"passphrase {i}"))]);
        if (passphrase is not null)
        {
            secrets.Default = LuksImages.Secret(passphrase);
        }

        await using Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.ForFile(path), new OpenFlags { Writable = true, Secrets = secrets });
        var amendable = (IAmendable)graph.Root.Device;
        object bound = OptionBinder.Bind(
            OptionSyntax.ParsePairs(options), "amend", "", [amendable.AmendOptionsType], [])[0];
        await amendable.AmendAsync(bound, secrets, force, CancellationToken.None);
    }

    private static async Task AssertOpensAsync(string path, string passphrase, byte[] content)
    {
        await using Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.ForFile(path), new OpenFlags { Secrets = LuksImages.With(passphrase) });
        await LuksImages.AssertContentAsync(graph.Root, content, passphrase);
    }
}
