namespace ImageMount.Core.Tests.Block;

/// <summary>Writes that share a block which the device cannot address in part must not undo each other.</summary>
public sealed class ExclusionTests
{
    private const int Align = 4096;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Interleaved_small_writes_all_survive(bool asynchronous)
    {
        var device = new MemoryDevice(8 * Align)
        {
            DeclaredLimits = BlockLimits.Default with { RequestAlignment = Align },
            CompletesAsynchronously = asynchronous,
        };
        var node = new BlockNode("disk", "memory", device);
        byte[] expected = TestPattern.Make(8 * Align, 0, 5);
        const int Workers = 8;
        const int Piece = 97;
        await Task.WhenAll(Enumerable.Range(0, Workers).Select(worker => Task.Run(async () =>
        {
            for (int at = worker * Piece; at < expected.Length; at += Workers * Piece)
            {
                await node.WriteAsync(at, expected.AsMemory(at, Math.Min(Piece, expected.Length - at)));
            }
        })));
        TestPattern.AssertEqual(expected, device.Content, 0, "interleaved writes");
    }

    [Fact]
    public async Task Whole_block_write_waits_for_a_read_modify_write_of_the_block()
    {
        (MemoryDevice device, BlockNode node, TaskCompletionSource release) = StoppedInModify();
        Task small = node.WriteAsync(100, new byte[] { 1, 2, 3 }).AsTask();
        byte[] block = TestPattern.Make(Align, 0, 9);
        Task whole = node.WriteAsync(0, block).AsTask();
        Assert.Equal(0, device.Count(TestOperation.Write) - 1);
        release.SetResult();
        await small;
        await whole;

        // Both overlapped in time; outside the small write only the whole one may have spoken last.
        TestPattern.AssertEqual(block.AsSpan(0, 100), device.Content.AsSpan(0, 100), 0, "before the small write");
        TestPattern.AssertEqual(block.AsSpan(103), device.Content.AsSpan(103, Align - 103), 103, "after it");
    }

    [Fact]
    public async Task Zeroing_waits_for_a_read_modify_write_of_the_block()
    {
        (MemoryDevice device, BlockNode node, TaskCompletionSource release) = StoppedInModify();
        Task small = node.WriteAsync(100, new byte[] { 1, 2, 3 }).AsTask();
        Task zero = node.ZeroAsync(0, Align).AsTask();
        release.SetResult();
        await small;
        await zero;
        Assert.False(device.Content.AsSpan(0, 100).ContainsAnyExcept((byte)0), "old bytes came back before the write");
        Assert.False(
            device.Content.AsSpan(103, Align - 103).ContainsAnyExcept((byte)0), "old bytes came back after the write");
    }

    [Fact]
    public async Task Writes_to_other_blocks_do_not_wait()
    {
        (MemoryDevice _, BlockNode node, TaskCompletionSource release) = StoppedInModify();
        Task small = node.WriteAsync(100, new byte[] { 1, 2, 3 }).AsTask();
        await node.WriteAsync(Align, new byte[Align]);
        await node.WriteAsync((2 * Align) + 7, new byte[9]);
        Assert.False(small.IsCompleted);
        release.SetResult();
        await small;
    }

    [Fact]
    public async Task A_failed_read_modify_write_lets_the_next_one_in()
    {
        bool fails = true;
        var device = new MemoryDevice(Align)
        {
            DeclaredLimits = BlockLimits.Default with { RequestAlignment = Align },
            Before = _ => fails ? throw new BlockException(BlockErrorKind.IoError, "broken") : default,
        };
        var node = new BlockNode("disk", "memory", device);
        await Assert.ThrowsAsync<BlockException>(async () => await node.WriteAsync(1, new byte[1]));
        fails = false;
        await node.WriteAsync(1, new byte[] { 7 });
        Assert.Equal(7, device.Content[1]);
    }

    /// <summary>A disk that stops in the first write of its first block until released.</summary>
    private static (MemoryDevice Device, BlockNode Node, TaskCompletionSource Release) StoppedInModify()
    {
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        int writes = 0;
        var device = new MemoryDevice(TestPattern.Make(4 * Align, 0, 3))
        {
            DeclaredLimits = BlockLimits.Default with { RequestAlignment = Align },
            Declared = BlockCapabilities.Write | BlockCapabilities.Zero,
            Before = request => request is { Operation: TestOperation.Write, Offset: 0 }
                && Interlocked.Increment(ref writes) == 1 ? new ValueTask(release.Task) : default,
        };
        return (device, new BlockNode("disk", "memory", device), release);
    }
}
