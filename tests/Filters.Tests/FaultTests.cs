namespace ImageMount.Filters.Tests;

public sealed class FaultTests
{
    [Theory]
    [InlineData("op=read,error=eio", BlockErrorKind.IoError, 5)]
    [InlineData("op=read,error=enospc", BlockErrorKind.NoSpace, 28)]
    [InlineData("op=read,error=edquot", BlockErrorKind.NoSpace, 122)]
    [InlineData("op=read,error=eacces", BlockErrorKind.PermissionDenied, 13)]
    [InlineData("op=read,error=etimedout", BlockErrorKind.TimedOut, 110)]
    public async Task Error_has_its_kind_and_errno(string options, BlockErrorKind kind, int errno)
    {
        await using Graph graph = await OpenAsync(options);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(0, new byte[1]));
        Assert.Equal((kind, errno), (e.Kind, e.Errno));
    }

    [Theory]
    [InlineData("op=read", "R")]
    [InlineData("op=write", "W")]
    [InlineData("op=zero", "Z")]
    [InlineData("op=discard", "D")]
    [InlineData("op=flush", "F")]
    [InlineData("op=resize", "S")]
    [InlineData("op=any", "RWZDFS")]
    public async Task Only_the_chosen_requests_fail(string options, string failing)
    {
        Graph graph = await OpenAsync(options);
        Assert.Equal(failing, await FailingAsync(graph.Root));
        if (failing.Contains('F', StringComparison.Ordinal))
        {
            await Assert.ThrowsAsync<BlockException>(async () => await graph.CloseAsync());
        }
        else
        {
            await graph.CloseAsync();
        }
    }

    [Theory]
    [InlineData("op=read,offset=4096,size=512", 4095, 1, false)]
    [InlineData("op=read,offset=4096,size=512", 4095, 2, true)]
    [InlineData("op=read,offset=4096,size=512", 4607, 1, true)]
    [InlineData("op=read,offset=4096,size=512", 4608, 1, false)]
    [InlineData("op=read,offset=4096", 9000, 1, true)]
    [InlineData("op=read,offset=4096", 0, 4096, false)]
    public async Task Requests_that_touch_the_range_fail(string options, int offset, int count, bool fails)
    {
        await using Graph graph = await OpenAsync(options);
        Assert.Equal(fails, await FailsAsync(() => graph.Root.ReadAsync(offset, new byte[count])));
    }

    [Theory]
    [InlineData("op=write,after=2", "..XXXX")]
    [InlineData("op=write,after=1,times=2", ".XX...")]
    [InlineData("op=write,times=1", "X.....")]
    public async Task Counts_decide_which_ones_fail(string options, string pattern)
    {
        await using Graph graph = await OpenAsync(options);
        string found = "";
        for (int i = 0; i < pattern.Length; i++)
        {
            found += await FailsAsync(() => graph.Root.WriteAsync(0, new byte[1])) ? 'X' : '.';
        }

        Assert.Equal(pattern, found);
    }

    [Fact]
    public async Task Failed_write_changes_nothing()
    {
        var device = new MemoryDevice(TestPattern.Make(100, 0, 1));
        await using Graph graph = await OpenAsync("op=write", device);
        Assert.True(await FailsAsync(() => graph.Root.WriteAsync(0, new byte[100])));
        Assert.Equal(TestPattern.Make(100, 0, 1), device.Content);
    }

    [Fact]
    public async Task Stacked_filters_are_several_rules()
    {
        var device = new MemoryDevice(1000) { Declared = BlockCapabilities.Write | BlockCapabilities.Zero };
        var file = new BlockNode("mem", "memory", device);
        await using Graph lower = await TestGraph.Opener.OpenOverAsync(
            "fault", file, TestGraph.Writable, OptionSyntax.ParsePairs("op=read"));
        await using Graph upper = await TestGraph.Opener.OpenOverAsync(
            "fault", lower.Root, TestGraph.Writable, OptionSyntax.ParsePairs("op=write"));
        Assert.Equal("RW", await FailingAsync(upper.Root));
    }

    private static ValueTask<Graph> OpenAsync(string options, MemoryDevice? device = null)
    {
        device ??= new MemoryDevice(10_000)
        {
            Declared = BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
                | BlockCapabilities.Resize,
        };
        return TestGraph.Opener.OpenOverAsync(
            "fault", new BlockNode("mem", "memory", device), TestGraph.Writable, OptionSyntax.ParsePairs(options));
    }

    private static async Task<string> FailingAsync(BlockNode node)
    {
        string failing = "";
        foreach ((char letter, Func<ValueTask> request) in ((char, Func<ValueTask>)[])
        [
            ('R', () => node.ReadAsync(0, new byte[1])),
            ('W', () => node.WriteAsync(0, new byte[1])),
            ('Z', () => node.ZeroAsync(0, 1)),
            ('D', () => node.DiscardAsync(0, 1)),
            ('F', () => node.FlushAsync()),
            ('S', async () => await node.TryResizeAsync(node.Length)),
        ])
        {
            failing += await FailsAsync(request) ? letter : "";
        }

        return failing;
    }

    private static async Task<bool> FailsAsync(Func<ValueTask> request)
    {
        try
        {
            await request();
            return false;
        }
        catch (BlockException e)
        {
            Assert.Contains("on purpose", e.Message, StringComparison.Ordinal);
            return true;
        }
    }
}
