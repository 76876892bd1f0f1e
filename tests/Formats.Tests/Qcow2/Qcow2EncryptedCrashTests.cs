using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>
/// The power is cut at every change of an encrypted image: a sector that was lost must not come back deciphered with the
/// wrong place, and what is zero or the parent's is not enciphered at all.
/// </summary>
public sealed class Qcow2EncryptedCrashTests
{
    /// <summary>Small keys make a small header.</summary>
    private const string Luks =
        "encrypt.format=luks,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.pbkdf-force-iterations=1000,"
        + $"encrypt.key-secret={LuksImages.SecretId},";

    private const string Aes = $"encrypt.format=aes,encrypt.key-secret={LuksImages.SecretId},";

    [SkippableTheory]
    [InlineData(Luks + "cluster_size=4k", false, 1)]
    [InlineData(Luks + "cluster_size=16k,extended_l2=on", true, 2)]
    [InlineData(Aes + "cluster_size=512", false, 3)]
    [InlineData(Aes + "cluster_size=4k", true, 4)]
    public async Task Mixed_workload(string options, bool hasParent, int seed)
    {
        using var dir = new TempDir();
        const int Size = (96 << 10) + (512 * 3);
        string path = dir.File("disk.qcow2");
        await LuksImages.CreateAsync(path, "qcow2", options, Size);
        byte[] image = File.ReadAllBytes(path);
        var initial = new byte[Size];
        OptionMap? more = null;
        if (hasParent)
        {
            byte[] parent = TestPattern.Make((Size / 4 * 3 / 512 * 512) + 512, 0, 5);
            parent.CopyTo(initial, 0);
            more = Qcow2Images.WithParent(dir.Write("parent.raw", parent));
        }

        var device = new CrashDevice(image);
        await using (Graph graph = await OpenAsync(new BlockNode("image", "test", device), TestGraph.Writable))
        {
            TestPattern.Fill(initial.AsSpan(Size / 512 / 2 * 512), 0, 99);
            await graph.Root.WriteAsync(Size / 512 / 2 * 512, initial.AsMemory(Size / 512 / 2 * 512));
        }

        await new CrashTest
        {
            Image = device.ToArray(),
            InitialDisk = initial,
            Seed = seed,
            MixturesPerCut = 1,
            SecondCrashes = 1,
            PeerChecks = 6,
            OpenAsync = OpenAsync,
            PeerCheck = path =>
            {
                ToolResult result = Qemu.Run(
                    "qemu-img", "check", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}",
                    "--image-opts", LuksImages.Source("qcow2", path));
                return result.ExitCode is 0 or 3 ? null : $"qemu-img check gave {result.ExitCode}: {result.All}";
            },
        }.RunAsync(guest => guest.RunMixedAsync(20, 20 << 10));

        ValueTask<Graph> OpenAsync(BlockNode node, OpenFlags flags) => TestGraph.Opener.OpenOverAsync(
            "qcow2", node, flags with { Secrets = LuksImages.Secrets() }, more);
    }
}
