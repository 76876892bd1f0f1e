namespace ImageMount.Core.Tests.Options;

public sealed class OptionBinderTests
{
    public enum Mode
    {
        Auto,
        ReadAhead,

        [OptionValue("1.1")]
        Modern,
    }

    [Fact]
    public void Every_type_is_bound()
    {
        SampleOptions options = Bind(
            "name=x,flag=on,maybe=no,count=-3,big=0x10,size=1.5k,mode=read-ahead,cache.direct=yes,limit=64k");
        Assert.Equal(
            new SampleOptions
            {
                Name = "x",
                Flag = true,
                Maybe = false,
                Count = -3,
                Big = 16,
                Size = 1536,
                Mode = Mode.ReadAhead,
                CacheDirect = true,
                Limit = 65536,
            },
            options);
    }

    [Fact]
    public void What_is_not_given_keeps_its_default()
    {
        SampleOptions options = Bind("name=x");
        Assert.Equal(new SampleOptions { Name = "x" }, options);
        Assert.Null(options.Maybe);
        Assert.Equal(7, options.Big);
    }

    [Fact]
    public void Enum_member_with_its_own_spelling_is_bound() => Assert.Equal(Mode.Modern, Bind("name=x,mode=1.1").Mode);

    [Fact]
    public void Alias_is_bound() => Assert.Equal(5, Bind("name=x,cnt=5").Count);

    [Fact]
    public void Key_and_alias_together_are_refused() =>
        AssertRefused("name=x,cnt=5,count=6", "option 'count' is given twice, as 'cnt' and as 'count'");

    [Theory]
    [InlineData("name=x,sise=1", "the driver has no option 'sise'. Did you mean 'size'?")]
    [InlineData("name=x,cache.dirct=on", "the driver has no option 'cache.dirct'. Did you mean 'cache.direct'?")]
    [InlineData("name=x,cache.direct.x=on", "the driver has no option 'cache.direct.x'. Did you mean 'cache.direct'?")]
    [InlineData("size=1", "the driver needs the option 'name'. 'name': The name.")]
    [InlineData("name=x,flag=maybe", "option 'flag' has a wrong value (found 'maybe', expected on or off)")]
    [InlineData("name=x,mode=fast", "option 'mode' has a wrong value (found 'fast', expected auto, read-ahead or 1.1)")]
    [InlineData("name=x,count=9", "option 'count' has a wrong value (found '9', expected a whole number, -4 to 8)")]
    [InlineData("name=x,count=", "option 'count' has a wrong value (found '', expected a whole number, -4 to 8)")]
    [InlineData("name=x,size=big", "option 'size' has a wrong value (found 'big', expected a size in bytes")]
    [InlineData("name=x,limit=1G", "at most 1M")]
    [InlineData("name=x,big=99999999999999999999", "option 'big' has a wrong value")]
    public void Mistakes_are_explained(string text, string message) => AssertRefused(text, message);

    [Fact]
    public void Unknown_key_far_from_all_lists_them() => AssertRefused("name=x,qqqqqqqq=1", "Its options are: big, ");

    [Fact]
    public void Secret_is_never_shown()
    {
        BlockException e = AssertRefused("name=x,secret=hunter2", "found (hidden)");
        Assert.DoesNotContain("hunter2", e.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Children_are_left_alone()
    {
        OptionMap map = OptionSyntax.ParsePairs("name=x,file.driver=y,file.z=1");
        var bound = (SampleOptions)OptionBinder.Bind(map, "the driver", "", [typeof(SampleOptions)], ["file"])[0];
        Assert.Equal("x", bound.Name);
    }

    [Fact]
    public void Prefix_is_part_of_the_message()
    {
        OptionMap map = OptionSyntax.ParsePairs("name=x,flag=maybe");
        BlockException e = Assert.Throws<BlockException>(
            () => OptionBinder.Bind(map, "the driver", "backing.file.", [typeof(SampleOptions)], []));
        Assert.Contains("'backing.file.flag'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_driver_declares_options_that_can_be_bound()
    {
        foreach (BlockDriver driver in TestGraph.Registry.Drivers)
        {
            OptionSchema schema = OptionSchema.Of(driver.OptionsType);
            Assert.All(schema.Options, option =>
            {
                Assert.NotEmpty(option.Help);
                Assert.Matches("^[a-z0-9][a-z0-9._-]*$", option.Name);
            });
            Assert.Contains(driver.Name, OptionDocs.HelpText(driver), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Table_and_help_name_every_option_and_child()
    {
        BlockDriver driver = TestGraph.Registry.Get("raw");
        string table = OptionDocs.MarkdownTable(driver);
        foreach (string key in OptionDocs.Keys(driver))
        {
            Assert.Contains($"`{key}`", table, StringComparison.Ordinal);
            Assert.Contains(key, OptionDocs.HelpText(driver), StringComparison.Ordinal);
        }

        Assert.Equal(["offset", "size", "file"], OptionDocs.Keys(driver));
    }

    private static SampleOptions Bind(string text) =>
        OptionBinder.Bind<SampleOptions>(OptionSyntax.ParsePairs(text), "the driver");

    private static BlockException AssertRefused(string text, string message)
    {
        BlockException e = Assert.Throws<BlockException>(() => Bind(text));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.Contains(message, e.Describe(), StringComparison.Ordinal);
        return e;
    }

    public sealed record SampleOptions
    {
        [Option("name", "The name.", Required = true)]
        public string Name { get; init; } = "";

        [Option("flag", "A flag.")]
        public bool Flag { get; init; }

        [Option("maybe", "A flag that may be left open.")]
        public bool? Maybe { get; init; }

        [Option("count", "A count.", Min = -4, Max = 8, Aliases = ["cnt"])]
        public int Count { get; init; }

        [Option("big", "A number.")]
        public long Big { get; init; } = 7;

        [Option("size", "A size.", IsSize = true)]
        public long? Size { get; init; }

        [Option("limit", "A limited size.", IsSize = true, Max = 1 << 20)]
        public int Limit { get; init; }

        [Option("mode", "A choice.")]
        public Mode Mode { get; init; }

        [Option("cache.direct", "A key with a dot.")]
        public bool CacheDirect { get; init; }

        [Option("secret", "A secret number.", IsSecret = true)]
        public int Secret { get; init; }
    }
}
