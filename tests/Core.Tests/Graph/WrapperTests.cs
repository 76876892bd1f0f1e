using System.Text;

namespace ImageMount.Core.Tests.Graph;

using Graph = ImageMount.Core.Graph.Graph;

/// <summary>Images inside something else: what the graph opens by itself, and what it leaves alone.</summary>
public sealed class WrapperTests
{
    private readonly FakeWorld _world = new();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(9)]
    public async Task Image_is_found_behind_wrappers(int wrappers)
    {
        Wrap("/vm/a.img.wrap", wrappers, "FAKE\n");
        Graph graph = await _world.OpenAsync("/vm/a.img.wrap");
        Assert.Equal("fake", graph.Root.Driver);
        Assert.Equal("fake", graph.Image.Driver);
        Assert.Equal(
            ["file", .. Enumerable.Repeat("wrap", wrappers), "fake"], graph.Nodes.Select(node => node.Driver));
        Assert.Equal("/vm/a.img.wrap", graph.Location);
        await graph.CloseAsync();
        _world.AssertAllClosed();
    }

    [Fact]
    public async Task Too_many_wrappers_are_refused()
    {
        Wrap("/vm/a.img", GraphLimits.MaxDepth, "FAKE\n");
        BlockException e = await _world.FailsAsync("/vm/a.img");
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
    }

    [Fact]
    public async Task Content_that_nobody_recognises_is_raw()
    {
        Wrap("/vm/a.img", 1, "plain bytes");
        await using Graph graph = await _world.OpenAsync("/vm/a.img");
        Assert.Equal(["file", "wrap", "raw"], graph.Nodes.Select(node => node.Driver));
        Assert.Equal("plain bytes", await ReadAsync(graph));
    }

    [Fact]
    public async Task Wrapper_that_is_named_shows_its_content()
    {
        Wrap("/vm/a.img", 1, "FAKE\n");
        await using Graph graph = await _world.OpenOptionsAsync("driver=wrap,file.filename=/vm/a.img");
        Assert.Equal(["file", "wrap"], graph.Nodes.Select(node => node.Driver));
        Assert.Equal("FAKE\n", await ReadAsync(graph));
    }

    [Theory]
    [InlineData("driver=fake,file.filename=/vm/a.img")]
    [InlineData("driver=fake,file.driver=wrap,file.file.driver=wrap,file.file.file.filename=/vm/a.img")]
    [InlineData("driver=fake,file.driver=wrap,file.file.filename=/vm/a.img")]
    [InlineData("file.driver=wrap,file.file.filename=/vm/a.img")]
    public async Task Format_that_is_named_is_looked_for_behind_wrappers(string options)
    {
        Wrap("/vm/a.img", 2, "FAKE\n");
        await using Graph graph = await _world.OpenOptionsAsync(options);
        Assert.Equal(["file", "wrap", "wrap", "fake"], graph.Nodes.Select(node => node.Driver));
    }

    [Theory]
    [InlineData("driver=raw,file.filename=/vm/a.img")]
    [InlineData("driver=file,filename=/vm/a.img")]
    [InlineData("driver=half,file.driver=raw,file.file.filename=/vm/a.img")]
    public async Task Raw_means_the_bytes_as_they_are(string options)
    {
        Wrap("/vm/a.img", 2, "FAKE\nFAKE\n");
        await using Graph graph = await _world.OpenOptionsAsync(options);
        Assert.DoesNotContain(graph.Nodes, node => node.Driver == "wrap");
        Assert.StartsWith("WRAP\nWRAP\n", await ReadAsync(graph), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Format_over_a_file_that_is_named_raw_is_not_looked_for_elsewhere()
    {
        Wrap("/vm/a.img", 1, "FAKE\n");
        await using Graph graph = await _world.OpenOptionsAsync(
            "driver=other,file.driver=raw,file.file.filename=/vm/a.img");
        Assert.Equal(["file", "raw", "other"], graph.Nodes.Select(node => node.Driver));
    }

    [Fact]
    public async Task References_start_from_the_wrapper_file()
    {
        Wrap("/vm/a.img", 1, "FAKE\nbacking|base.img|raw\n");
        _world.AddRaw("/vm/base.img");
        await using Graph graph = await _world.OpenAsync("/vm/a.img");
        Assert.Equal(["file", "wrap", "file", "raw", "fake"], graph.Nodes.Select(node => node.Driver));
    }

    [Fact]
    public async Task Parent_may_be_wrapped_and_a_loop_through_wrappers_is_found()
    {
        _world.AddImage("/vm/top.img", "backing|a.img|fake");
        Wrap("/vm/a.img", 1, "FAKE\n");
        await using (Graph graph = await _world.OpenAsync("/vm/top.img"))
        {
            Assert.Equal(["file", "file", "wrap", "fake", "fake"], graph.Nodes.Select(node => node.Driver));
        }

        _world.AddImage("/vm/top.img", "backing|b.img|fake");
        Wrap("/vm/b.img", 1, "FAKE\nbacking|top.img|fake\n");
        BlockException e = await _world.FailsAsync("/vm/top.img");
        Assert.Contains("refers to itself", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/vm/a.img")]
    [InlineData("json:{\"driver\":\"wrap\",\"file\":{\"driver\":\"file\",\"filename\":\"/vm/a.img\"}}")]
    public async Task Writable_open_becomes_read_only_and_says_so(string source)
    {
        Wrap("/vm/a.img", 2, "FAKE\n");
        Graph graph = await _world.OpenAsync(source, TestGraph.Writable);
        Assert.False(graph.Root.CanWrite);
        Assert.False(_world.OpenedWith["/vm/a.img"].Writable);
        Assert.Contains("for reading only", Assert.Single(graph.Warnings), StringComparison.Ordinal);
        await graph.CloseAsync();
        _world.AssertAllClosed();
    }

    [Fact]
    public async Task Node_that_exists_already_is_looked_into_too()
    {
        var file = new BlockNode("mine", "memory", new MemoryDevice("WRAP\nFAKE\n"u8.ToArray()));
        await using (Graph graph = await _world.Opener.OpenOverAsync(null, file, TestGraph.Writable))
        {
            Assert.Equal(["wrap", "fake"], graph.Nodes.Select(node => node.Driver));
        }

        await file.CloseAsync();
    }

    private void Wrap(string path, int wrappers, string content) => _world.Files[path] = Encoding.UTF8.GetBytes(
        string.Concat(Enumerable.Repeat(FakeWrapper.Line, wrappers)) + content);

    private static async Task<string> ReadAsync(Graph graph)
    {
        var content = new byte[graph.Root.Length];
        await graph.Root.ReadAsync(0, content);
        return Encoding.UTF8.GetString(content);
    }
}
