using ImageMount.Protocols.Files;
using Xunit;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>
/// Which bytes are for direct I/O, and that no request runs while that changes. File systems that order direct and
/// buffered writes by themselves (ext4, xfs) would hide a mistake here.
/// </summary>
public sealed class DirectEdgeTests
{
    [SkippableTheory]
    [InlineData(512, 0, long.MaxValue)]
    [InlineData(512, 4096 + 512, long.MaxValue)]
    [InlineData(512, 4096 + 513, 1)]
    [InlineData(512, 511, 0)]
    [InlineData(4096, 3 * 4096 - 1, 2)]
    [InlineData(4096, 3 * 4096, long.MaxValue)]
    public void Edge_lies_on_a_page_never_inside_one(int block, long length, long expected)
    {
        const int Page = 4096;
        Skip.If(Environment.SystemPageSize != Page, "the numbers are those of 4 KiB pages");
        long edge = new DirectEdge(block, length).EdgeOf(length);
        Assert.Equal(expected == long.MaxValue ? expected : expected * Page, edge);
    }

    [Fact]
    public void Edge_moves_only_when_a_tail_comes_or_goes()
    {
        var edge = new DirectEdge(512, 8192);
        Assert.False(edge.MustMove(8192 + 512));
        Assert.True(edge.MustMove(8192 + 1));
        edge = new DirectEdge(512, 10);
        Assert.False(edge.MustMove(20));
        Assert.True(edge.MustMove(1024));
    }

    [Fact]
    public async Task Edge_waits_for_requests_in_flight_and_holds_back_new_ones()
    {
        var edge = new DirectEdge(512, 8192 + 1);
        Assert.True(edge.TryEnter(out int slot, out long before));
        Assert.Equal(8192, before);

        Task moving = edge.BeginMoveAsync().AsTask();
        Assert.False(moving.IsCompleted, "a request is in flight");
        Assert.False(edge.TryEnter(out _, out _), "the edge is moving");
        Task moved = edge.WhenMovedAsync();
        Assert.False(moved.IsCompleted);

        edge.Exit(slot);
        await moving;
        Assert.False(edge.TryEnter(out _, out _), "the edge has not arrived");
        edge.EndMove(16_384);
        await moved;
        Assert.True(edge.TryEnter(out slot, out long after));
        Assert.Equal(long.MaxValue, after);
        edge.Exit(slot);
        Assert.True(edge.WhenMovedAsync().IsCompletedSuccessfully);
    }
}
