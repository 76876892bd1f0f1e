namespace ImageMount.Filters.Tests;

/// <summary>Parts of disks: the format raw and the filter window.</summary>
public sealed class RawAndWindowTests : IDisposable
{
    private readonly TempDir _dir = new();

    public void Dispose() => _dir.Dispose();

    [Fact]
    public async Task Window_of_a_window_adds_up()
    {
        byte[] content = TestPattern.Make(100_000, 0, 1);
        string path = _dir.Write("disk.img", content);
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=window,offset=1000,size=5000,file.driver=window,file.offset=10k,file.file={path}");
        Assert.Equal(5000, graph.Root.Length);
        var found = new byte[5000];
        await graph.Root.ReadAsync(0, found);
        TestPattern.AssertEqual(content.AsSpan(11_240, 5000), found, 0, "window");
    }

    [Theory]
    [InlineData("driver=raw,offset=100001,file.filename={0}", "'offset' lies behind the end")]
    [InlineData("driver=raw,offset=1,size=100000,file.filename={0}", "'size' reaches behind the end")]
    [InlineData("driver=window,size=1M,file={0}", "'size' reaches behind the end")]
    [InlineData("driver=raw,offset=-1,file.filename={0}", "option 'offset' has a wrong value")]
    public async Task Part_outside_the_file_is_refused(string options, string message)
    {
        string path = _dir.Write("disk.img", new byte[100_000]);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenOptionsAsync(
            string.Format(System.Globalization.CultureInfo.InvariantCulture, options, path)));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.Contains(message, e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("driver=raw,file.filename={0}", true)]
    [InlineData("driver=raw,size=100000,file.filename={0}", true)]
    [InlineData("driver=raw,size=99999,file.filename={0}", false)]
    [InlineData("driver=raw,offset=4096,file.filename={0}", true)]
    [InlineData("driver=window,size=10k,file={0}", false)]
    [InlineData("driver=delay,file={0}", false)]
    [InlineData("driver=overlay,file={0}", false)]
    public async Task Host_file_is_given_where_it_is_the_same_bytes(string options, bool given)
    {
        string path = _dir.Write("disk.img", new byte[100_000]);
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            string.Format(System.Globalization.CultureInfo.InvariantCulture, options, path));
        Assert.Equal(given, graph.Root.TryGetHostFile(out HostFileRegion region));
        if (given)
        {
            Assert.Equal(graph.Root.Length, RandomAccess.GetLength(region.Handle) - region.Offset);
        }
    }

    [Fact]
    public async Task Holes_of_the_file_are_holes_of_the_disk()
    {
        string path = _dir.WriteSparse("disk.img", 8 << 20);
        using (Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path, FileMode.Open, FileAccess.Write))
        {
            RandomAccess.Write(file, TestPattern.Make(65536, 0, 1), 4 << 20);
        }

        await using Graph graph = await TestGraph.OpenAsync(path);
        BlockExtent extent = await graph.Root.MapAsync(0, graph.Root.Length);
        Assert.True(extent.IsZero);
        Assert.Equal(4 << 20, extent.Length);
        extent = await graph.Root.MapAsync(4 << 20, 65536);
        Assert.True(extent.IsData);
        Assert.Equal(4 << 20, extent.HostOffset);
    }
}
