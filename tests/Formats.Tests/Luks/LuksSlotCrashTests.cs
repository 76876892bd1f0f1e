using ImageMount.Core.Info;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Luks;

/// <summary>
/// The power is cut at every change that adding or removing a passphrase makes. The other passphrase opens the image in
/// every state, and what was reported done stays done.
/// </summary>
public sealed class LuksSlotCrashTests
{
    private const string Other = "other passphrase";

    public static TheoryData<string, string, string, int> Cases()
    {
        var cases = new TheoryData<string, string, string, int>();
        foreach ((string options, string cheap) in ((string, string)[])
            [("cipher-alg=aes-128,cipher-mode=cbc," + LuksImages.Cheap, LuksImages.Cheap),
             ("version=2," + LuksImages.CheapArgon, LuksImages.CheapArgon)])
        {
            // Slot 6 of LUKS1 lies across two sectors.
            cases.Add("luks", options, cheap, 1);
            cases.Add("luks", options, cheap, 6);
        }

        cases.Add("qcow2", "format=luks,cipher-alg=aes-128,cipher-mode=cbc," + LuksImages.Cheap, LuksImages.Cheap, 6);

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Adding_never_costs_the_passphrase_that_is_there(
        string format, string options, string cheap, int slot)
    {
        byte[] image = await MakeAsync(format, options);
        CrashDevice device = await AmendAsync(format, image, $"state=active,new-secret=other,keyslot={slot},{cheap}");
        await ForEachStateAsync(device, async (left, isLast, what) =>
        {
            Assert.True(await OpensAsync(format, left, LuksImages.Passphrase), $"{what}: the old passphrase is lost");
            bool added = await OpensAsync(format, left, Other);
            Assert.True(added || !isLast, $"{what}: the new passphrase is lost");
        });
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Removing_never_costs_the_other_passphrase(
        string format, string options, string cheap, int slot)
    {
        byte[] image = await MakeAsync(format, options);
        image = (await AmendAsync(format, image, $"state=active,new-secret=other,keyslot={slot},{cheap}")).ToArray();
        CrashDevice device = await AmendAsync(format, image, $"state=inactive,keyslot={slot}");
        await ForEachStateAsync(device, async (left, isLast, what) =>
        {
            Assert.True(await OpensAsync(format, left, LuksImages.Passphrase), $"{what}: the other passphrase is lost");
            Assert.False(isLast && await OpensAsync(format, left, Other), $"{what}: the removed passphrase still opens");
        });
        Assert.False(Contains(device.ToArray(), MaterialOf(image, slot)), "the key material is still there");
    }

    private static async Task<byte[]> MakeAsync(string format, string options)
    {
        using var dir = new TempDir();
        string path = dir.File("image");
        await LuksImages.CreateAsync(path, format, Named(format, options), new byte[4096]);
        return File.ReadAllBytes(path);
    }

    /// <summary>The options as a format calls them.</summary>
    private static string Named(string format, string options) =>
        format == "luks" ? options : "encrypt." + options.Replace(",", ",encrypt.", StringComparison.Ordinal);

    private static ValueTask<Graph> OpenOverAsync(string format, CrashDevice device, OpenFlags flags) =>
        TestGraph.Opener.OpenOverAsync(format, new BlockNode("image", "test", device), flags);

    private static async Task<CrashDevice> AmendAsync(string format, byte[] image, string options)
    {
        var device = new CrashDevice(image);
        using Core.Secrets.SecretStore secrets = LuksImages.Secrets(("other", Other));
        Graph graph = await OpenOverAsync(format, device, new OpenFlags { Writable = true, Secrets = secrets });
        var amendable = (IAmendable)graph.Root.Device;
        object bound = OptionBinder.Bind(
            OptionSyntax.ParsePairs(Named(format, options)), "amend", "", [amendable.AmendOptionsType], [])[0];
        await amendable.AmendAsync(bound, secrets, force: false, CancellationToken.None);
        await graph.CloseAsync();
        return device;
    }

    private static async Task ForEachStateAsync(CrashDevice device, Func<CrashDevice, bool, string, Task> look)
    {
        IReadOnlyList<CrashOperation> log = device.Log;
        Assert.True(log.Count >= 4, "too few changes to be true");
        for (int cut = 0; cut <= log.Count; cut++)
        {
            foreach ((CrashPolicy policy, int seed) in ((CrashPolicy, int)[])
                [(CrashPolicy.DropAll, 0), (CrashPolicy.KeepAll, 0), (CrashPolicy.Seeded, 1), (CrashPolicy.Seeded, 2)])
            {
                await look(device.Recover(cut, policy, seed), cut == log.Count, $"cut {cut} of {log.Count}, {policy} {seed}");
            }
        }
    }

    private static async Task<bool> OpensAsync(string format, CrashDevice left, string passphrase)
    {
        try
        {
            Graph graph = await OpenOverAsync(
                format, left, new OpenFlags { Secrets = LuksImages.With(passphrase) });
            await graph.CloseAsync();
            return true;
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.PermissionDenied)
        {
            return false;
        }
    }

    private static byte[] MaterialOf(byte[] image, int slot)
    {
        // LUKS1 says in the header where it is; LUKS2 of ours puts the second slot behind the first.
        int start = image.AsSpan().IndexOf((byte[])[.. "LUKS"u8, 0xba, 0xbe]); // In a qcow2 somewhere inside.
        int at = image[start + 7] == 1
            ? System.Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(image.AsSpan(start + 208 + (slot * 48) + 40)) * 512
            : (32 << 10) + 258048;
        return image[(start + at)..(start + at + 4096)];
    }

    private static bool Contains(byte[] image, byte[] piece) => image.AsSpan().IndexOf(piece) >= 0;
}
