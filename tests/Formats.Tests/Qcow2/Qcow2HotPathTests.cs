using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>What a warm request costs, and what many requests at once do to each other.</summary>
public sealed class Qcow2HotPathTests
{
    [Theory]
    [InlineData("default")]
    [InlineData("extended-64k")]
    public async Task Warm_reads_and_overwrites_allocate_nothing(string layout)
    {
        const int Size = 8 << 20;
        const int Request = 4096;
        byte[] image = await Qcow2Images.CreateAsync(Qcow2Images.Layouts[layout], Size);
        image = await Qcow2Images.WriteAsync(image, 0, TestPattern.Make(Size, 0, 1));
        var file = new BlockNode("quiet", "test", new QuietDevice(image));
        Graph graph = await TestGraph.Opener.OpenOverAsync("qcow2", file, TestGraph.Writable);
        var buffer = new byte[Request];
        Assert.Equal(0, Allocations.Least(20, () => RunAll(graph.Root, buffer)));
        await graph.CloseAsync();

        // Synchronous on purpose: allocation is counted for a thread, and a warm request never leaves it.
        static void RunAll(BlockNode disk, byte[] buffer)
        {
            for (int at = 0; at < Size; at += Request)
            {
                ValueTask read = disk.ReadAsync(at, buffer);
                if (!read.IsCompletedSuccessfully)
                {
                    throw new InvalidOperationException("a warm read was suspended");
                }

                ValueTask write = disk.WriteAsync(at, buffer);
                if (!write.IsCompletedSuccessfully)
                {
                    throw new InvalidOperationException("a warm overwrite was suspended");
                }
            }
        }
    }

    [Fact]
    public async Task Warm_overwrite_reaches_the_file_as_one_write_and_no_metadata()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 8 << 20);
        image = await Qcow2Images.WriteAsync(image, 0, TestPattern.Make(8 << 20, 0, 1));
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await graph.Root.WriteAsync(0, new byte[4096]);
        device.ClearLog();
        await graph.Root.WriteAsync(100_000, new byte[4096]);
        TestRequest only = Assert.Single(device.Log);
        Assert.Equal(TestOperation.Write, only.Operation);
        Assert.Equal(4096, only.Count);
        device.ClearLog();
        await graph.Root.ReadAsync(1 << 20, new byte[4 << 20]);
        Assert.Single(device.Log); // Neighbouring clusters are one run.
        await graph.CloseAsync();
    }

    [Fact]
    public async Task Small_write_to_a_new_cluster_writes_only_its_own_bytes()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 8 << 20);
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await graph.Root.WriteAsync(0, TestPattern.Make(512, 0, 1));
        device.ClearLog();
        await graph.Root.WriteAsync(1 << 20, TestPattern.Make(4096, 0, 1));
        Assert.Equal(4096, device.Log.Single(request => request.Operation == TestOperation.Write).Count);
        await graph.CloseAsync();
    }

    [Theory]
    [InlineData("512", 512, 1)]
    [InlineData("default", 4096, 2)]
    [InlineData("extended-16k", 512, 3)]
    [InlineData("v2", 4096, 4)]
    public async Task Tasks_that_share_clusters_do_not_disturb_each_other(string layout, int piece, int seed)
    {
        const int Size = 1 << 20;
        const int Tasks = 12;
        byte[] image = await Qcow2Images.CreateAsync(Qcow2Images.Layouts[layout], Size);
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        device.CompletesAsynchronously = true;
        var expected = new byte[Size];
        await Task.WhenAll(Enumerable.Range(0, Tasks).Select(worker => Task.Run(async () =>
        {
            // Pieces are dealt out in turn, so every cluster belongs to all tasks; each checks what it wrote.
            var random = new Random((seed * 1000) + worker);
            for (int i = 0; i < 60; i++)
            {
                long index = random.Next(Size / piece / Tasks) * Tasks + worker;
                long at = index * piece;
                byte[] content = TestPattern.Make(piece, at, (worker * 1000) + i);
                if (random.Next(5) == 0)
                {
                    content.AsSpan().Clear();
                    await graph.Root.ZeroAsync(at, piece, ZeroFlags.MayUnmap);
                }
                else
                {
                    await graph.Root.WriteAsync(at, content);
                }

                content.CopyTo(expected, at);
                var found = new byte[piece];
                await graph.Root.ReadAsync(at, found);
                TestPattern.AssertEqual(content, found, at, $"task {worker}, step {i}, seed {seed}");
                if (random.Next(12) == 0)
                {
                    await graph.Root.FlushAsync();
                }
            }
        })));
        byte[] disk = await Qcow2Images.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, disk, 0, $"at the end, seed {seed}");
        await Qcow2Images.AssertCleanAsync(graph.Root, "open");
        await graph.CloseAsync();
        device.CompletesAsynchronously = false;
        await Qcow2Images.AssertCleanAsync(device.Content, "closed");
    }

    [Fact]
    public async Task Cache_smaller_than_the_tables_still_gives_the_right_bytes()
    {
        const int Size = 24 << 20;
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = 512 }, Size);
        var options = new OptionMap();
        options.Set("l2-cache-size", "64k");
        options.Set("refcount-cache-size", "1M");
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image, TestGraph.Writable, options);
        var random = new Random(5);
        var expected = new byte[Size];
        for (int i = 0; i < 1500; i++)
        {
            int at = random.Next(Size - 3000);
            byte[] content = TestPattern.Make(random.Next(1, 3000), at, i);
            content.CopyTo(expected, at);
            await graph.Root.WriteAsync(at, content);
        }

        byte[] disk = await Qcow2Images.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, disk, 0, "open");
        await graph.CloseAsync();
        await Qcow2Images.AssertCleanAsync(device.Content, "closed");
        (graph, _) = await Qcow2Images.OpenAsync(device.Content, TestGraph.ReadOnly, options);
        disk = await Qcow2Images.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, disk, 0, "reopened");
        await graph.CloseAsync();
    }

    /// <summary>Bytes in memory, without a log: the tests' own device allocates.</summary>
    private sealed class QuietDevice(byte[] content) : BlockDevice
    {
        public override long Length => content.Length;

        public override BlockCapabilities Capabilities => BlockCapabilities.Write;

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            content.AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span);
            return default;
        }

        public override ValueTask WriteAsync(
            long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
        {
            buffer.Span.CopyTo(content.AsSpan((int)offset));
            return default;
        }
    }
}
