namespace ImageMount.Core.Tests.Graph;

using Graph = ImageMount.Core.Graph.Graph;

/// <summary>A hostile image cannot make the graph endless, huge, or wander off.</summary>
public sealed class LimitTests
{
    private readonly FakeWorld _world = new();

    [Fact]
    public async Task Chain_of_ten_opens_and_of_eleven_does_not()
    {
        for (int i = 1; i < 12; i++)
        {
            _world.AddImage($"/vm/{i}.img", $"backing|{i + 1}.img|fake");
        }

        _world.AddImage("/vm/12.img");
        await using (Graph graph = await _world.OpenAsync("/vm/3.img"))
        {
            Assert.Equal(20, graph.Nodes.Count);
        }

        BlockException e = await _world.FailsAsync("/vm/2.img");
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
        Assert.Contains("'/vm/2.img' → '/vm/3.img' → ", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Number_of_nodes_is_limited()
    {
        _world.AddRaw("/vm/part.img");
        _world.AddImage("/vm/a.img", [.. Enumerable.Range(0, 200).Select(i => $"extents.{i}|part.img|raw")]);
        BlockException e = await _world.FailsAsync("/vm/a.img");
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
        Assert.Contains("256", e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a.img")]
    [InlineData("./a.img")]
    [InlineData("../vm/a.img")]
    [InlineData("/vm/sub/../a.img")]
    public async Task Image_that_is_its_own_parent_is_refused_with_its_chain(string reference)
    {
        _world.AddImage("/vm/a.img", $"backing|{reference}|fake");
        _world.Files[reference.StartsWith('/') ? reference : "/vm/" + reference] = _world.Files["/vm/a.img"];
        BlockException e = await _world.FailsAsync("/vm/a.img");
        Assert.Contains("refers to itself: '/vm/a.img' → '", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Longer_loop_is_refused()
    {
        _world.AddImage("/vm/a.img", "backing|b.img|fake");
        _world.AddImage("/vm/b.img", "backing|c.img|fake");
        _world.AddImage("/vm/c.img", "data-file|a.img|raw");
        BlockException e = await _world.FailsAsync("/vm/a.img");
        Assert.Contains(
            "refers to itself: '/vm/a.img' → '/vm/b.img' → '/vm/c.img' → '/vm/a.img'", e.Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Loop_through_a_hard_link_is_refused()
    {
        _world.AddImage("/vm/a.img", "backing|b.img|fake");
        _world.AddImage("/vm/b.img");
        _world.Identities["/vm/a.img"] = _world.Identities["/vm/b.img"] = "inode 7";
        BlockException e = await _world.FailsAsync("/vm/a.img");
        Assert.Contains("refers to itself", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Same_parent_of_two_children_is_no_loop()
    {
        _world.AddImage("/vm/a.img", "extents.0|x.img|fake", "extents.1|y.img|fake");
        _world.AddImage("/vm/x.img", "backing|base.img|raw");
        _world.AddImage("/vm/y.img", "backing|base.img|raw");
        _world.AddRaw("/vm/base.img");
        await using Graph graph = await _world.OpenAsync("/vm/a.img");
        Assert.Equal(10, graph.Nodes.Count);
    }

    [Fact]
    public async Task Nested_filters_of_the_user_are_limited_too()
    {
        string options = string.Concat(Enumerable.Range(0, 11).Select(
            i => string.Concat(Enumerable.Repeat("file.", i)) + "driver=half,"));
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await _world.OpenOptionsAsync(options.TrimEnd(',')));
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
    }

    [Theory]
    [InlineData("base.img")]
    [InlineData("sub/base.img")]
    [InlineData("./sub/../base.img")]
    [InlineData("/vm/images/base.img")]
    [InlineData("file:base.img")]
    [InlineData("file:///vm/images/base.img")]
    public async Task Reference_inside_the_tree_is_opened(string reference)
    {
        string path = reference.Replace("file:", "", StringComparison.Ordinal)
            .Replace("///", "/", StringComparison.Ordinal);
        path = path.StartsWith('/') ? path : "/vm/images/" + path;
        _world.AddImage("/vm/images/a.img", $"backing|{reference}|raw");
        _world.AddRaw(path);
        await using Graph graph = await _world.OpenAsync("/vm/images/a.img");
        Assert.Contains(graph.Nodes, node => node.Name == path);
    }

    [Theory]
    [InlineData("../base.img", "/vm/images/../base.img", "outside '/vm/images'")]
    [InlineData("/etc/shadow", "/etc/shadow", "outside '/vm/images'")]
    [InlineData("/vm/images2/x", "/vm/images2/x", "outside '/vm/images'")]
    [InlineData("sub/../../x", "/vm/images/sub/../../x", "outside '/vm/images'")]
    [InlineData("/dev/sda", "/dev/sda", "device")]
    [InlineData("remote://host/x", "remote://host/x", "not a file on this host")]
    [InlineData("old:host:1", "old:host:1", "not a file on this host")]
    [InlineData("unknown:host", "unknown:host", "not a file on this host")]
    [InlineData("json:{\"driver\":\"file\",\"filename\":\"/vm/images/b\"}", "/vm/images/b", "not trusted")]
    public async Task Reference_out_of_the_tree_needs_permission(string reference, string path, string why)
    {
        string format = reference.StartsWith("json", StringComparison.Ordinal) ? "" : "raw";
        _world.AddImage("/vm/images/a.img", $"backing|{reference}|{format}");
        _world.AddRaw(path);
        BlockException e = await _world.FailsAsync("/vm/images/a.img");
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        Assert.Contains(why, e.Describe(), StringComparison.Ordinal);
        Assert.Contains("--allow-external", e.Hint, StringComparison.Ordinal);
        if (!reference.StartsWith("unknown", StringComparison.Ordinal))
        {
            await using Graph graph = await _world.OpenAsync(
                "/vm/images/a.img", new OpenFlags { AllowExternal = true });
            Assert.Contains(graph.Nodes, node => node.Name == path);
        }
    }

    [Fact]
    public async Task Image_in_dev_refers_to_no_other_device()
    {
        _world.AddImage("/dev/vg/a", "backing|b|raw");
        _world.AddRaw("/dev/vg/b");
        BlockException e = await _world.FailsAsync("/dev/vg/a");
        Assert.Contains("device", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Tree_is_that_of_the_image_the_user_named()
    {
        // b is deeper in the tree; what it names is still judged from where the user stands.
        _world.AddImage("/vm/a.img", "backing|sub/b.img|fake");
        _world.AddImage("/vm/sub/b.img", "backing|../c.img|raw");
        _world.AddRaw("/vm/sub/../c.img");
        await using (Graph graph = await _world.OpenAsync("/vm/a.img"))
        {
            Assert.Equal(6, graph.Nodes.Count);
        }

        await _world.FailsAsync("/vm/sub/b.img");
    }

    [Fact]
    public async Task Reference_of_the_users_own_parent_is_judged_from_there()
    {
        _world.AddImage("/vm/a.img", "backing|gone.img|fake");
        _world.AddImage("/base/b.img", "backing|c.img|raw");
        _world.AddRaw("/base/c.img");
        await using Graph graph = await _world.OpenOptionsAsync("filename=/vm/a.img,backing.file.filename=/base/b.img");
        Assert.Contains(graph.Nodes, node => node.Name == "/base/c.img");
    }

    [Fact]
    public async Task Adding_options_to_a_reference_does_not_make_it_the_users()
    {
        _world.AddImage("/vm/a.img", "backing|/etc/shadow|raw");
        _world.AddRaw("/etc/shadow");
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await _world.OpenOptionsAsync("filename=/vm/a.img,backing.read-only=on"));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        _world.AssertAllClosed();
    }

    [Fact]
    public async Task Link_that_leads_out_of_the_tree_is_followed_before_judging()
    {
        using var dir = new TempDir();
        Directory.CreateDirectory(dir.File("in"));
        Directory.CreateDirectory(dir.File("out"));
        Directory.CreateSymbolicLink(dir.File("in/link"), dir.File("out"));
        File.CreateSymbolicLink(dir.File("in/self"), "a.img");
        string image = dir.File("in/a.img");
        _world.AddImage(image, "backing|link/b.img|raw");
        _world.AddRaw(dir.File("in/link/b.img"));
        BlockException e = await _world.FailsAsync(image);
        Assert.Contains("outside", e.Message, StringComparison.Ordinal);

        File.WriteAllBytes(image, []);
        _world.AddImage(image, "backing|self|fake");
        _world.AddImage(dir.File("in/self"));
        e = await _world.FailsAsync(image);
        Assert.Contains("refers to itself", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Endless_links_are_an_error()
    {
        using var dir = new TempDir();
        File.CreateSymbolicLink(dir.File("x"), "y");
        File.CreateSymbolicLink(dir.File("y"), "x");
        string image = dir.File("a.img");
        _world.AddImage(image, "backing|x|raw");
        BlockException e = await _world.FailsAsync(image);
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
    }

    [Fact]
    public async Task Reference_next_to_a_remote_image_is_remote()
    {
        _world.AddImage("remote://host/dir/a.img?x=1", "backing|sub/b c.img|raw");
        _world.AddRaw("remote://host/dir/sub/b%20c.img");
        await using Graph graph = await _world.OpenAsync("remote://host/dir/a.img?x=1");
        Assert.Contains(graph.Nodes, node => node.Name == "remote://host/dir/sub/b%20c.img");
    }

    [Theory]
    [InlineData("../b.img")]
    [InlineData("/etc/shadow")]
    [InlineData("remote://elsewhere/b.img")]
    public async Task Reference_from_a_remote_image_stays_there(string reference)
    {
        _world.AddImage("remote://host/dir/a.img", $"backing|{reference}|raw");
        _world.AddRaw("remote://host/b.img");
        _world.AddRaw("/etc/shadow");
        _world.AddRaw("remote://elsewhere/b.img");
        BlockException e = await _world.FailsAsync("remote://host/dir/a.img");
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
    }

    [Fact]
    public async Task Relative_reference_without_a_place_is_an_error()
    {
        var file = new BlockNode("mem", "memory", new MemoryDevice([.. "FAKE\nbacking|b.img|raw\n"u8]));
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await _world.Opener.OpenOverAsync("fake", file, TestGraph.ReadOnly));
        Assert.Contains("no folder to look for it in", e.Message, StringComparison.Ordinal);
        _world.AddRaw("/vm/b.img");
        await using Graph graph = await _world.Opener.OpenOverAsync(
            "fake", file, TestGraph.ReadOnly, location: "/vm/a.img");
        Assert.Contains(graph.Nodes, node => node.Name == "/vm/b.img");
    }

    [Fact]
    public async Task Reference_of_absurd_length_is_refused()
    {
        _world.AddImage("/vm/a.img", $"backing|{new string('x', 5000)}|raw");
        BlockException e = await _world.FailsAsync("/vm/a.img");
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
        Assert.True(e.Describe().Length < 500);
    }
}
