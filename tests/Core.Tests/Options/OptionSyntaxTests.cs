namespace ImageMount.Core.Tests.Options;

public sealed class OptionSyntaxTests
{
    [Fact]
    public void Pairs_become_groups()
    {
        OptionMap map = OptionSyntax.ParsePairs("driver=qcow2,file.driver=file,file.filename=/a/b=c.img,x=");
        Assert.Equal(["driver", "file", "x"], map.Keys);
        Assert.Equal("/a/b=c.img", map.Find("file.filename"));
        Assert.Equal("", map.Get("x"));
    }

    [Theory]
    [InlineData("a=1,,2", "1,2")]
    [InlineData("a=,,", ",")]
    [InlineData("a=,,,,", ",,")]
    [InlineData("a=x,,", "x,")]
    public void Doubled_comma_is_a_comma(string text, string value) =>
        Assert.Equal(value, OptionSyntax.ParsePairs(text).Get("a"));

    [Fact]
    public void Later_value_wins() => Assert.Equal("2", OptionSyntax.ParsePairs("a=1,a=2").Get("a"));

    [Theory]
    [InlineData("a")]
    [InlineData("=1")]
    [InlineData("a=1,b")]
    [InlineData("a.=1")]
    [InlineData(".a=1")]
    [InlineData("a=1,a.b=2")]
    [InlineData("a.b=2,a=1")]
    public void Broken_pairs_are_refused(string text) =>
        Assert.Equal(
            BlockErrorKind.InvalidArgument, Assert.Throws<BlockException>(() => OptionSyntax.ParsePairs(text)).Kind);

    [Fact]
    public void Json_is_flattened()
    {
        OptionMap map = OptionSyntax.ParseJson(
            """
            {"driver":"qcow2","lazy":true,"off":false,"size":65536,"backing":null,"file.driver":"file",
             "file":{"filename":"a.img"},"hosts":[{"port":1},{"port":2}]}
            """);
        Assert.Equal("on", map.Get("lazy"));
        Assert.Equal("off", map.Get("off"));
        Assert.Equal("65536", map.Get("size"));
        Assert.Equal("", map.Get("backing"));
        Assert.Equal("file", map.Find("file.driver"));
        Assert.Equal("a.img", map.Find("file.filename"));
        Assert.Equal("2", map.Find("hosts.1.port"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("1")]
    [InlineData("""{"a":1,"a.b":2}""")]
    [InlineData("""{"":1}""")]
    [InlineData("""{"a":"\ud800"}""")]
    public void Broken_json_is_refused(string json) =>
        Assert.Equal(
            BlockErrorKind.InvalidArgument, Assert.Throws<BlockException>(() => OptionSyntax.ParseJson(json)).Kind);

    [Fact]
    public void Depth_length_and_number_are_limited()
    {
        string deep = string.Concat(Enumerable.Repeat("{\"a\":", 500)) + "1" + new string('}', 500);
        Assert.Throws<BlockException>(() => OptionSyntax.ParseJson(deep));
        string dotted = string.Join('.', Enumerable.Repeat("a", 500)) + "=1";
        Assert.Equal(
            BlockErrorKind.LimitExceeded, Assert.Throws<BlockException>(() => OptionSyntax.ParsePairs(dotted)).Kind);
        string many = string.Join(',', Enumerable.Range(0, 2000).Select(i => $"k{i}=1"));
        Assert.Equal(
            BlockErrorKind.LimitExceeded, Assert.Throws<BlockException>(() => OptionSyntax.ParsePairs(many)).Kind);
        Assert.Equal(
            BlockErrorKind.LimitExceeded,
            Assert.Throws<BlockException>(() => OptionSyntax.ParsePairs("a=" + new string('x', 1 << 17))).Kind);
    }

    [Fact]
    public void Merge_lets_the_other_win_group_by_group()
    {
        OptionMap map = OptionSyntax.ParsePairs("a=1,g.x=1,g.y=1");
        map.Merge(OptionSyntax.ParsePairs("g.y=2,h.z=3"));
        Assert.Equal(("1", "1", "2", "3"), (map.Get("a"), map.Find("g.x"), map.Find("g.y"), map.Find("h.z")));
    }

    [Fact]
    public void Clone_shares_nothing()
    {
        OptionMap map = OptionSyntax.ParsePairs("g.x=1");
        OptionMap copy = map.Clone();
        copy.SetPath("g.x", "2");
        Assert.Equal("1", map.Find("g.x"));
    }
}
