namespace ImageMount.Core.Tests.Block;

/// <summary>
/// The node sends a device only what its limits allow (MemoryDevice throws otherwise), and its user notices nothing.
/// </summary>
public sealed class AlignmentTests
{
    public static TheoryData<int, int, int, int> Shapes()
    {
        var shapes = new TheoryData<int, int, int, int>();
        foreach ((int align, int memory, int transfer) in ((int, int, int)[])
            [(1, 1, 0), (512, 1, 0), (512, 512, 0), (4096, 4096, 0), (4096, 1, 8192), (512, 4096, 512), (1, 1, 1000)])
        {
            // Whole blocks; an odd end; shorter than a block.
            foreach (int length in (int[])[40_960, 40_960 + 77, 300])
            {
                shapes.Add(align, memory, transfer, length);
            }
        }

        return shapes;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Reads_and_writes_of_every_shape_agree_with_an_array(
        int align, int memory, int transfer, int length)
    {
        for (int seed = 0; seed < 3; seed++)
        {
            byte[] model = TestPattern.Make(length, 0, seed);
            var device = new MemoryDevice((byte[])model.Clone())
            {
                DeclaredLimits = new BlockLimits
                {
                    RequestAlignment = align,
                    MemoryAlignment = memory,
                    MaxTransfer = transfer,
                },
                CompletesAsynchronously = seed == 1,
                Declared = BlockCapabilities.Write | (seed == 2 ? BlockCapabilities.Zero : 0),
            };
            var node = new BlockNode("disk", "memory", device);
            var random = new Random((seed * 7919) + align);
            byte[] buffer = new byte[length + 64];
            for (int i = 0; i < 300; i++)
            {
                int at = Near(random, align, length);
                int end = Near(random, align, length);
                (at, end) = (Math.Min(at, end), Math.Max(at, end));
                int skew = random.Next(64);
                Memory<byte> part = buffer.AsMemory(skew, end - at);
                string context = $"seed {seed}, step {i}: 0x{at:x}+0x{end - at:x}";
                switch (i % 3)
                {
                    case 0:
                        TestPattern.Fill(part.Span, at, i);
                        part.CopyTo(model.AsMemory(at));
                        await node.WriteAsync(at, part);
                        break;
                    case 1:
                        model.AsSpan(at, end - at).Clear();
                        await node.ZeroAsync(at, end - at);
                        break;
                    default:
                        await node.ReadAsync(at, part);
                        TestPattern.AssertEqual(model.AsSpan(at, end - at), part.Span, at, context);
                        break;
                }

                TestPattern.AssertEqual(model, device.Content, 0, context);
            }
        }
    }

    [Fact]
    public async Task Aligned_request_reaches_the_device_as_it_is()
    {
        var device = Aligned(new byte[8192], 512);
        var node = new BlockNode("disk", "memory", device);
        using BufferLease buffer = BufferPool.Shared.Rent(1024);
        await node.ReadAsync(512, buffer.Memory);
        await node.WriteAsync(1024, buffer.Memory);
        Assert.Equal(
            [
                new TestRequest(TestOperation.Read, 512, 1024, WriteFlags.None),
                new TestRequest(TestOperation.Write, 1024, 1024, WriteFlags.None),
            ],
            device.Log);
    }

    [Fact]
    public async Task Array_that_happens_to_lie_well_is_not_handed_to_a_device_that_needs_alignment()
    {
        byte[] content = TestPattern.Make(8192, 0, 1);
        var device = new MemoryDevice((byte[])content.Clone())
        {
            Declared = BlockCapabilities.Write,
            DeclaredLimits = new BlockLimits { RequestAlignment = 512, MemoryAlignment = 512 },
        };
        var node = new BlockNode("disk", "memory", device);

        // Every place an array can have, so one of them is aligned: it could move before the kernel sees its address.
        var buffer = new byte[1024];
        for (int skew = 0; skew < 512; skew++)
        {
            Memory<byte> part = buffer.AsMemory(skew, 512);
            await node.ReadAsync(1024, part);
            TestPattern.AssertEqual(content.AsSpan(1024, 512), part.Span, 1024, $"skew {skew}");
            await node.WriteAsync(1024, part);
        }

        TestPattern.AssertEqual(content, device.Content, 0, "written back");
    }

    [Fact]
    public async Task Write_inside_a_block_reads_it_once_and_writes_it_once()
    {
        var device = Aligned(TestPattern.Make(8192, 0, 1), 4096);
        var node = new BlockNode("disk", "memory", device);
        await node.WriteAsync(4096 + 10, new byte[20]);
        Assert.Equal(
            [
                new TestRequest(TestOperation.Read, 4096, 4096, WriteFlags.None),
                new TestRequest(TestOperation.Write, 4096, 4096, WriteFlags.None),
            ],
            device.Log);
    }

    [Fact]
    public async Task Write_over_many_blocks_reads_only_the_two_at_its_ends()
    {
        var device = Aligned(TestPattern.Make(16 * 512, 0, 1), 512);
        var node = new BlockNode("disk", "memory", device);
        await node.WriteAsync(100, new byte[5000]);
        Assert.Equal(2, device.Count(TestOperation.Read));
        Assert.All(
            device.Log.Where(request => request.Operation == TestOperation.Read),
            request => Assert.Equal(512, request.Count));
        Assert.Equal(1, device.Count(TestOperation.Write));
    }

    [Fact]
    public async Task Large_transfers_are_split_at_the_limit()
    {
        var device = new MemoryDevice(100_000)
        {
            DeclaredLimits = BlockLimits.Default with { MaxTransfer = 4096 },
        };
        var node = new BlockNode("disk", "memory", device);
        await node.ReadAsync(0, new byte[100_000]);
        Assert.Equal(25, device.Count(TestOperation.Read));
    }

    [Fact]
    public async Task Discard_shrinks_to_whole_blocks()
    {
        var device = new MemoryDevice(TestPattern.Make(10_000, 0, 1))
        {
            DeclaredLimits = BlockLimits.Default with { RequestAlignment = 4096, MaxZero = 4096 },
            Declared = BlockCapabilities.Write | BlockCapabilities.Discard,
        };
        var node = new BlockNode("disk", "memory", device);
        await node.DiscardAsync(1, 4096 + 4000);
        Assert.Equal(0, device.Count(TestOperation.Discard));
        await node.DiscardAsync(4095, 10_000 - 4095);
        Assert.Equal(
            [
                new TestRequest(TestOperation.Discard, 4096, 4096, WriteFlags.None),
                new TestRequest(TestOperation.Discard, 8192, 10_000 - 8192, WriteFlags.None),
            ],
            device.Log);
    }

    private static MemoryDevice Aligned(byte[] content, int alignment) => new(content)
    {
        DeclaredLimits = BlockLimits.Default with { RequestAlignment = alignment },
    };

    private static int Near(Random random, int align, int length)
    {
        int at = random.Next(length + 1);
        int near = random.Next(3) switch
        {
            0 => at,
            1 => at / align * align,
            _ => (at / align * align) + random.Next(-2, 3),
        };
        return Math.Clamp(near, 0, length);
    }
}
