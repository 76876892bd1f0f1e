namespace ImageMount.Core.Tests.Graph;

using Graph = ImageMount.Core.Graph.Graph;

/// <summary>The same rules with real files, real locks and images that qemu-img made.</summary>
public sealed class RealImageTests : IDisposable
{
    private readonly TempDir _dir = new();

    public void Dispose() => _dir.Dispose();

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Image_that_is_its_own_parent_is_named_a_loop_and_not_a_lock(bool writable)
    {
        string image = Create("a.qcow2", "a.qcow2");
        BlockException e = await FailsAsync(image, new OpenFlags { Writable = writable });
        Assert.Contains("refers to itself", e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Loop_through_a_hard_link_is_refused()
    {
        string image = Create("a.qcow2", "b.qcow2");
        Qemu.Succeed("ln", image, _dir.File("b.qcow2"));
        BlockException e = await FailsAsync(image, TestGraph.ReadOnly);
        Assert.Contains("refers to itself", e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Chain_is_found_beside_the_image_from_any_working_folder()
    {
        Create("base.qcow2", null);
        Create("mid.qcow2", "base.qcow2");
        string top = Create("top.qcow2", "mid.qcow2");
        string relative = Path.GetRelativePath(Environment.CurrentDirectory, top);
        foreach (string source in (string[])[top, relative, "file:" + top])
        {
            await using Graph graph = await TestGraph.OpenAsync(source, TestGraph.Writable);
            Assert.Equal(6, graph.Nodes.Count);
            Assert.Equal(top, Path.GetFullPath(graph.Location!));
        }
    }

    [SkippableFact]
    public async Task Parent_is_shared_and_the_image_is_not()
    {
        Create("base.qcow2", null);
        string one = Create("one.qcow2", "base.qcow2");
        string two = Create("two.qcow2", "base.qcow2");
        await using Graph first = await TestGraph.OpenAsync(one, TestGraph.Writable);
        await using Graph second = await TestGraph.OpenAsync(two, TestGraph.Writable);
        BlockException e = await FailsAsync(one, TestGraph.Writable);
        Assert.Equal(BlockErrorKind.InUse, e.Kind);
        await using Graph overlay = await TestGraph.Opener.OpenAsync(
            SourceParser.Wrap(TestGraph.ForFile(_dir.File("base.qcow2")), "overlay"), TestGraph.Writable);
        Assert.True(overlay.Root.CanWrite);
    }

    [SkippableFact]
    public async Task Failed_opening_leaves_no_lock_behind()
    {
        string image = Create("a.qcow2", "missing.qcow2");
        BlockException e = await FailsAsync(image, TestGraph.Writable);
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        Assert.Contains("missing.qcow2", e.Describe(), StringComparison.Ordinal);
        await using Graph graph = await TestGraph.OpenOptionsAsync($"filename={image},backing=", TestGraph.Writable);
        Assert.True(graph.Root.CanWrite);
    }

    private static async Task<BlockException> FailsAsync(string image, OpenFlags flags) =>
        await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(image, flags));

    private string Create(string name, string? backing)
    {
        string path = _dir.File(name);
        string[] parent = backing is null ? [] : ["-u", "-F", "qcow2", "-b", backing];
        Qemu.Img(["create", "-q", "-f", "qcow2", .. parent, path, "1M"]);
        return path;
    }
}
