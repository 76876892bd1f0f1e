using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>When a freed cluster may be given out again, step by step.</summary>
public sealed class Qcow2ReuseTests
{
    private const int Cluster = 4096;

    [Fact]
    public async Task Freed_cluster_is_used_again_after_a_flush_and_not_before()
    {
        (Graph graph, _) = await StartAsync();
        await using (graph)
        {
            long old = await HostAsync(graph.Root, 0);
            await graph.Root.DiscardAsync(0, Cluster);
            await graph.Root.WriteAsync(10 * Cluster, new byte[Cluster]);
            Assert.NotEqual(old, await HostAsync(graph.Root, 10 * Cluster));
            await graph.Root.FlushAsync();
            await graph.Root.WriteAsync(11 * Cluster, new byte[Cluster]);
            Assert.Equal(old, await HostAsync(graph.Root, 11 * Cluster));
        }
    }

    [Fact]
    public async Task Cluster_freed_while_a_write_back_runs_waits_for_the_next_one()
    {
        (Graph graph, MemoryDevice device) = await StartAsync();
        await using (graph)
        {
            long old = await HostAsync(graph.Root, 0);
            await graph.Root.WriteAsync(9 * Cluster, new byte[Cluster]); // Something to write back.
            bool discarded = false;
            device.Before = async request =>
            {
                if (request.Operation == TestOperation.Flush && !discarded)
                {
                    discarded = true;
                    await graph.Root.DiscardAsync(0, Cluster);
                }
            };
            await graph.Root.FlushAsync();
            device.Before = null;
            Assert.True(discarded);
            await graph.Root.WriteAsync(10 * Cluster, new byte[Cluster]);
            Assert.NotEqual(old, await HostAsync(graph.Root, 10 * Cluster));
            await graph.Root.FlushAsync();
            await graph.Root.WriteAsync(11 * Cluster, new byte[Cluster]);
            Assert.Equal(old, await HostAsync(graph.Root, 11 * Cluster));
        }
    }

    [Fact]
    public async Task Cluster_that_a_read_still_uses_is_not_given_out()
    {
        (Graph graph, MemoryDevice device) = await StartAsync();
        await using (graph)
        {
            long old = await HostAsync(graph.Root, 0);
            var gate = new TaskCompletionSource();
            device.Before = request =>
                request.Operation == TestOperation.Read && request.Offset == old ? new(gate.Task) : default;
            var found = new byte[Cluster];
            Task read = graph.Root.ReadAsync(0, found).AsTask();
            await graph.Root.DiscardAsync(0, Cluster);
            await graph.Root.FlushAsync();
            await graph.Root.FlushAsync();
            await graph.Root.WriteAsync(10 * Cluster, TestPattern.Make(Cluster, 0, 55));
            long fresh = await HostAsync(graph.Root, 10 * Cluster);
            gate.SetResult();
            Assert.NotEqual(old, fresh);
            await read;
            device.Before = null;
            TestPattern.AssertEqual(TestPattern.Make(Cluster, 0, 1), found, 0, "a read that began before the discard");

            // The check waits for what is being freed.
            await Qcow2Images.AssertCleanAsync(graph.Root, "with the read over");
            await graph.Root.WriteAsync(11 * Cluster, new byte[Cluster]);
            Assert.Equal(old, await HostAsync(graph.Root, 11 * Cluster));
        }
    }

    [Fact]
    public async Task Cluster_of_a_failed_write_is_given_back()
    {
        (Graph graph, MemoryDevice device) = await StartAsync();
        await using (graph)
        {
            device.Before = request => request.Operation == TestOperation.Write
                ? throw new BlockException(BlockErrorKind.IoError, "no")
                : default;
            await Assert.ThrowsAsync<BlockException>(
                async () => await graph.Root.WriteAsync(10 * Cluster, new byte[Cluster]));
            device.Before = null;
            await graph.Root.WriteAsync(11 * Cluster, TestPattern.Make(Cluster, 0, 4));
            await graph.Root.FlushAsync();
            await Qcow2Images.AssertCleanAsync(graph.Root, "after a failed write");
        }
    }

    [Fact]
    public async Task Free_space_of_earlier_sessions_is_used_before_the_file_grows()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = Cluster }, 4 << 20);
        image = await Qcow2Images.WriteAsync(image, 0, TestPattern.Make(2 << 20, 0, 1));
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await graph.Root.DiscardAsync(64 << 10, 1 << 20);
        await graph.CloseAsync();
        long length = device.Length;
        (graph, device) = await Qcow2Images.OpenAsync(device.Content);
        await graph.Root.WriteAsync(2 << 20, TestPattern.Make(1 << 20, 0, 2));
        await graph.CloseAsync();
        Assert.InRange(device.Length, length, length + (2 * Cluster));
        await Qcow2Images.AssertCleanAsync(device.Content, "after reuse");
    }

    [Fact]
    public async Task File_ends_with_the_last_used_cluster_after_closing()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = Cluster }, 4 << 20);
        long empty = image.Length;
        byte[] full = await Qcow2Images.WriteAsync(image, 0, TestPattern.Make(Cluster, 0, 1));
        Assert.Equal(empty + (2 * Cluster), full.Length); // An L2 table and the cluster itself.
    }

    private static async Task<(Graph Graph, MemoryDevice Device)> StartAsync()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = Cluster }, 1 << 20);
        image = await Qcow2Images.WriteAsync(image, 0, TestPattern.Make(8 * Cluster, 0, 1));
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await graph.Root.WriteAsync(0, TestPattern.Make(Cluster, 0, 1));
        return (graph, device);
    }

    private static async Task<long> HostAsync(BlockNode disk, long offset)
    {
        BlockExtent extent = await disk.MapAsync(offset, 1);
        Assert.True((extent.Flags & ExtentFlags.HostOffset) != 0, $"nothing is stored at 0x{offset:x}");
        return extent.HostOffset;
    }
}
