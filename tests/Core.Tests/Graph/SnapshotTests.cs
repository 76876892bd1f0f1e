namespace ImageMount.Core.Tests.Graph;

using Graph = ImageMount.Core.Graph.Graph;

public sealed class SnapshotTests
{
    private readonly FakeWorld _world = new();

    public SnapshotTests() => _world.AddImage("/vm/a.img");

    [Theory]
    [InlineData("2", 200)]
    [InlineData("before update", 200)]
    [InlineData("two", 100)]
    [InlineData("4", 400)]
    public async Task Snapshot_is_found_by_id_then_by_name(string nameOrId, long length)
    {
        await using Graph graph = await _world.OpenAsync("/vm/a.img", TestGraph.Writable);
        BlockNode node = await graph.OpenSnapshotAsync(nameOrId);
        Assert.Equal(length, node.Length);
        Assert.False(node.CanWrite);
        Assert.StartsWith("/vm/a.img@", node.Name, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Missing_and_ambiguous_names_are_explained()
    {
        await using Graph graph = await _world.OpenAsync("/vm/a.img");
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await graph.OpenSnapshotAsync("none"));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        Assert.Contains("1 'two', 2 'before update'", e.Describe(), StringComparison.Ordinal);
        e = await Assert.ThrowsAsync<BlockException>(async () => await graph.OpenSnapshotAsync("twice"));
        Assert.Contains("3 'twice', 4 'twice'", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Format_without_snapshots_says_so()
    {
        _world.AddRaw("/vm/raw.img");
        await using Graph graph = await _world.OpenAsync("/vm/raw.img");
        Assert.Empty(graph.Snapshots);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await graph.OpenSnapshotAsync("1"));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
    }

    [Fact]
    public async Task Filters_above_the_image_stand_above_its_snapshots_too()
    {
        await using Graph graph = await _world.OpenOptionsAsync("driver=half,file=/vm/a.img", TestGraph.Writable);
        Assert.Equal(4, graph.Snapshots.Count);
        BlockNode node = await graph.OpenSnapshotAsync("4");
        Assert.Equal(200, node.Length);
        Assert.Equal("half", node.Driver);
        Assert.False(_world.OpenedWith["half"].Writable);
    }

    [Fact]
    public async Task Snapshots_are_closed_before_the_image()
    {
        Graph graph = await _world.OpenAsync("/vm/a.img");
        BlockNode node = await graph.OpenSnapshotAsync("1");
        await graph.CloseAsync();
        Assert.Equal(1, ((MemoryDevice)node.Device).Closes);
    }
}
