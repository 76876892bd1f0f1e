namespace ImageMount.Core.Tests.Options;

public sealed class OptionValueTests
{
    [Theory]
    [InlineData("0", 0)]
    [InlineData("512", 512)]
    [InlineData("512b", 512)]
    [InlineData("1k", 1024)]
    [InlineData("1K", 1024)]
    [InlineData("1KiB", 1024)]
    [InlineData("2M", 2L << 20)]
    [InlineData("1.5G", 3L << 29)]
    [InlineData("0x10000", 65536)]
    [InlineData("4T", 4L << 40)]
    [InlineData("7E", 7L << 60)]
    [InlineData("9223372036854775807", long.MaxValue)]
    [InlineData(" 64k ", 65536)]
    public void Size_is_read(string text, long bytes)
    {
        Assert.True(OptionValues.TryParseSize(text, out long found));
        Assert.Equal(bytes, found);
    }

    [Theory]
    [InlineData("")]
    [InlineData("-1")]
    [InlineData("k")]
    [InlineData("1x")]
    [InlineData("1kk")]
    [InlineData("8E")]
    [InlineData("9223372036854775808")]
    [InlineData("0.3")]
    [InlineData("0.3k")]
    [InlineData("0x")]
    [InlineData("0xFFFFFFFFFFFFFFFF")]
    [InlineData("1,000")]
    [InlineData("1e3")]
    [InlineData("99999999999999999999999999999999G")]
    public void What_is_no_size_is_refused(string text) => Assert.False(OptionValues.TryParseSize(text, out _));

    [Theory]
    [InlineData(0, "0")]
    [InlineData(1000, "1000")]
    [InlineData(65536, "64k")]
    [InlineData(1L << 40, "1T")]
    public void Size_is_written_with_the_largest_suffix(long bytes, string text)
    {
        Assert.Equal(text, OptionValues.FormatSize(bytes));
        Assert.True(OptionValues.TryParseSize(text, out long again));
        Assert.Equal(bytes, again);
    }

    [Theory]
    [InlineData("on", true)]
    [InlineData("YES", true)]
    [InlineData("true", true)]
    [InlineData("off", false)]
    [InlineData("no", false)]
    [InlineData("False", false)]
    public void Boolean_is_read(string text, bool value)
    {
        Assert.True(OptionValues.TryParseBoolean(text, out bool found));
        Assert.Equal(value, found);
    }

    [Theory]
    [InlineData("Auto", "auto")]
    [InlineData("MonolithicSparse", "monolithic-sparse")]
    [InlineData("IOThread", "io-thread")]
    [InlineData("Sha256", "sha256")]
    [InlineData("Version3", "version3")]
    public void Names_become_kebab_case(string name, string text) =>
        Assert.Equal(text, OptionValues.ToKebabCase(name));

    [Theory]
    [InlineData("lazy-refcount", "lazy-refcounts")]
    [InlineData("lazyrefcounts", "lazy-refcounts")]
    [InlineData("ofset", "offset")]
    [InlineData("szie", "size")]
    [InlineData("back", "backing")]
    public void Nearest_key_is_found(string typed, string meant) =>
        Assert.Equal(meant, NearestName.Find(typed, ["offset", "size", "lazy-refcounts", "backing", "file"]));

    [Theory]
    [InlineData("zzzzzz")]
    [InlineData("compression")]
    public void Nothing_near_is_nothing(string typed) =>
        Assert.Null(NearestName.Find(typed, ["offset", "size", "lazy-refcounts"]));
}
