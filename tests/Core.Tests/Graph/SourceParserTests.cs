namespace ImageMount.Core.Tests.Graph;

public sealed class SourceParserTests
{
    private readonly SourceParser _parser = new(new FakeWorld().Registry);

    [Theory]
    [InlineData("disk.img", "disk.img")]
    [InlineData("/a/b c.img", "/a/b c.img")]
    [InlineData("./nbd:x", "./nbd:x")]
    [InlineData("dir/with:colon", "dir/with:colon")]
    [InlineData("c:x", "c:x")]
    [InlineData("file:disk.img", "disk.img")]
    [InlineData("file:///a/b", "/a/b")]
    [InlineData("file:/a/b", "/a/b")]
    [InlineData("per%20cent", "per%20cent")]
    public void Path_is_a_file(string source, string path)
    {
        OptionMap map = _parser.Parse(source);
        Assert.Equal("file", map.Find("file.driver"));
        Assert.Equal(path, map.Find("file.filename"));
        Assert.False(map.Contains("driver"));
    }

    [Theory]
    [InlineData("remote://host/a.img")]
    [InlineData("REMOTE://host/a.img")]
    [InlineData("old:host:10809:exportname=x")]
    public void Uri_selects_its_driver(string source)
    {
        OptionMap map = _parser.Parse(source);
        Assert.Equal("remote", map.Find("file.driver"));
        Assert.Equal(source, map.Find("file.url"));
    }

    [Fact]
    public void Unknown_scheme_names_the_nearest_and_the_way_out()
    {
        BlockException e = Assert.Throws<BlockException>(() => _parser.Parse("remot://host/a"));
        Assert.Contains("Did you mean 'remote:'?", e.Hint, StringComparison.Ordinal);
        Assert.Contains("'./remot://host/a'", e.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public void Existing_file_with_a_colon_is_a_path()
    {
        using var dir = new TempDir();
        string name = Path.GetRelativePath(Environment.CurrentDirectory, dir.Write("remote:x", [1]));
        Assert.Equal(name, _parser.Parse(name).Find("file.filename"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("a\0b")]
    [InlineData("file:")]
    [InlineData("json:")]
    [InlineData("json:[1]")]
    public void Nonsense_is_refused(string source)
    {
        BlockException e = Assert.ThrowsAny<BlockException>(() => _parser.Parse(source));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }

    [Fact]
    public void Json_describes_the_node_itself() =>
        Assert.Equal("qcow2", _parser.Parse("""json:{"driver":"qcow2"}""").Get("driver"));

    [Fact]
    public void Image_options_must_say_something() =>
        Assert.Throws<BlockException>(() => _parser.ParseImageOptions(""));
}
