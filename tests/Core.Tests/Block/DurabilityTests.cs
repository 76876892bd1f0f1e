namespace ImageMount.Core.Tests.Block;

public sealed class DurabilityTests
{
    private const BlockCapabilities Writable = BlockCapabilities.Write;

    [Fact]
    public async Task Fua_is_a_write_and_a_flush_where_the_device_lacks_it()
    {
        var device = new MemoryDevice(8192) { Declared = Writable };
        await new BlockNode("disk", "memory", device).WriteAsync(0, new byte[512], WriteFlags.Fua);
        Assert.Equal([TestOperation.Write, TestOperation.Flush], device.Log.Select(request => request.Operation));
    }

    [Fact]
    public async Task Fua_is_passed_on_where_the_device_has_it()
    {
        var device = new MemoryDevice(8192) { Declared = Writable | BlockCapabilities.Fua };
        await new BlockNode("disk", "memory", device).WriteAsync(0, new byte[512], WriteFlags.Fua);
        Assert.Equal([new TestRequest(TestOperation.Write, 0, 512, WriteFlags.Fua)], device.Log);
    }

    [Fact]
    public async Task Split_fua_write_is_flushed_once_at_its_end()
    {
        var device = new MemoryDevice(8192)
        {
            Declared = Writable,
            DeclaredLimits = BlockLimits.Default with { MaxTransfer = 1024 },
        };
        await new BlockNode("disk", "memory", device).WriteAsync(0, new byte[4096], WriteFlags.Fua);
        Assert.Equal(4, device.Count(TestOperation.Write));
        Assert.Equal(TestOperation.Flush, device.Log.Last().Operation);
        Assert.Equal(1, device.Count(TestOperation.Flush));
    }

    [Fact]
    public async Task Write_through_node_makes_every_write_and_zeroing_durable()
    {
        var device = new MemoryDevice(8192) { Declared = Writable };
        var node = new BlockNode("disk", "memory", device, new NodeOptions { WriteThrough = true });
        await node.WriteAsync(0, new byte[512]);
        Assert.Equal(TestOperation.Flush, device.Log.Last().Operation);
        device.ClearLog();
        await node.ZeroAsync(0, 512);
        Assert.Equal(TestOperation.Flush, device.Log.Last().Operation);
    }

    [Fact]
    public async Task Unsafe_node_passes_no_flush_on()
    {
        var device = new MemoryDevice(8192) { Declared = Writable };
        var node = new BlockNode("disk", "memory", device, new NodeOptions { IgnoreFlush = true });
        await node.WriteAsync(0, new byte[512], WriteFlags.Fua);
        await node.FlushAsync();
        await node.ZeroAsync(0, 512, ZeroFlags.Fua);
        Assert.Equal(0, device.Count(TestOperation.Flush));
    }

    [Fact]
    public async Task Failed_flush_of_an_emulated_fua_fails_the_write()
    {
        var device = new MemoryDevice(8192)
        {
            Declared = Writable,
            Before = request => request.Operation == TestOperation.Flush
                ? throw new BlockException(BlockErrorKind.IoError, "no") : default,
        };
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await new BlockNode("disk", "memory", device).WriteAsync(0, new byte[1], WriteFlags.Fua));
        Assert.Equal(BlockErrorKind.IoError, e.Kind);
    }
}
