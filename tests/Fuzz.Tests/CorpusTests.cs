using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests;

/// <summary>
/// Hostile images that fuzzers of other programs found. They lie outside the repository (<see cref="Corpus"/>).
/// </summary>
public sealed class CorpusTests
{
    // A watchdog: both images once kept programs busy for minutes.
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(30);

    [SkippableTheory]
    [InlineData("afl9.vmdk", "vmdk")]
    [InlineData("afl9.vmdk", null)]
    [InlineData("afl5.img", "vmdk")]
    [InlineData("afl5.img", "qcow2")]
    public void Hostile_image_of_the_corpus_is_refused(string name, string? driver)
    {
        using var scratch = new Scratch();
        string path = Corpus.Unpack(name, scratch.Folder);
        BlockException? refusal = null;
        var thread = new Thread(() => refusal = Open(path, driver)) { IsBackground = true };
        thread.Start();
        Assert.True(thread.Join(s_watchdog), $"{name}: no answer within {s_watchdog}");
        Assert.True(refusal is not null, $"{name} was served");
        Assert.NotEmpty(refusal.Describe());
    }

    /// <summary>The refusal on opening or on reading all of it, or null.</summary>
    private static BlockException? Open(string path, string? driver)
    {
        try
        {
            ReadAllAsync(path, driver).GetAwaiter().GetResult();
            return null;
        }
        catch (BlockException e)
        {
            return e;
        }
    }

    private static async Task ReadAllAsync(string path, string? driver)
    {
        await using Graph graph = await TestGraph.Opener.OpenAsync(TestGraph.ForFile(path, driver), TestGraph.ReadOnly);
        byte[] buffer = new byte[1 << 20];
        for (long at = 0; at < Math.Min(graph.Root.Length, 64 << 20); at += buffer.Length)
        {
            int count = (int)Math.Min(buffer.Length, graph.Root.Length - at);
            await graph.Root.ReadAsync(at, buffer.AsMemory(0, count));
        }
    }
}
