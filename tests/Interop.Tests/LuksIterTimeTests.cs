using ImageMount.Core.Graph;
using ImageMount.Formats.Luks;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Images whose costs come of iter-time, as they do without any option. How much that is, this machine says; that it
/// is something, and opens everywhere, is asked here (the arithmetic has tests of its own: KdfBenchmarkTests).
/// </summary>
public sealed class LuksIterTimeTests
{
    [SkippableTheory]
    [InlineData("luks", "version=1")]
    [InlineData("luks", "version=2,pbkdf=pbkdf2")]
    [InlineData("luks", "version=2,pbkdf=argon2i,pbkdf-memory=512")]
    [InlineData("luks", "version=2,pbkdf=argon2id,pbkdf-memory=512")]
    [InlineData("qcow2", "encrypt.format=luks")]
    public async Task Image_and_added_passphrase_open_everywhere(string format, string options)
    {
        using var dir = new TempDir();
        string path = dir.File("disk");
        byte[] content = TestPattern.Make(64 << 10, 0, 1);
        string memory = options.Contains("argon", StringComparison.Ordinal) ? ",pbkdf-memory=512" : "";
        string prefix = format == "qcow2" ? "encrypt." : "";
        await LuksImages.CreateAsync(path, format, $"{options},{prefix}iter-time=50", content);
        await using (Graph graph = await LuksImages.OpenAsync(path))
        {
            await LuksImages.AssertContentAsync(graph.Root, content, options);
            AssertCosts(graph, 0);
        }

        await LuksKeySlotTests.AmendAsync(path, $"{prefix}state=active,{prefix}new-secret=second,{prefix}iter-time=50{memory}");
        foreach (string passphrase in (string[])[LuksImages.Passphrase, LuksKeySlotTests.Second])
        {
            await using Graph graph = await TestGraph.Opener.OpenAsync(
                TestGraph.ForFile(path), new OpenFlags { Secrets = LuksImages.With(passphrase) });
            await LuksImages.AssertContentAsync(graph.Root, content, passphrase);
            AssertCosts(graph, passphrase == LuksKeySlotTests.Second ? 1 : 0);
            if (format == "luks")
            {
                Assert.True(LuksImages.CryptsetupOpens(dir, path, passphrase));
            }
            else
            {
                LuksImages.CheckByQemu(dir, path, passphrase);
            }
        }
    }

    private static void AssertCosts(Graph graph, int slot)
    {
        if (graph.Image.Device is LuksDevice luks)
        {
            LuksKdf kdf = luks.Header.Slots.Single(candidate => candidate.Id == slot).Kdf;
            Assert.True(kdf.Iterations >= (kdf.Kind == LuksPbkdf.Pbkdf2 ? 1000 : 4));
            Assert.True(kdf.Kind == LuksPbkdf.Pbkdf2 || kdf.MemoryKiB == 512);
        }
    }
}
