namespace ImageMount.TestSupport.Conformance;

/// <summary>The half of the suite that changes nothing.</summary>
public abstract class ConformanceReading : ConformanceBase
{
    [SkippableFact]
    public async Task Driver_stands_in_the_graph_under_its_name()
    {
        await using Fixture f = await StartAsync();
        Assert.Contains(f.Graph.Nodes, node => node.Driver == Driver);
        if (ExpectedRootDriver is { } expected)
        {
            Assert.Equal(expected, f.Disk.Driver);
        }
    }

    [SkippableFact]
    public async Task Read_whole_disk_at_once()
    {
        await using Fixture f = await StartAsync();
        await AssertContentAsync(f.Disk, f.Content, "whole disk");
    }

    [SkippableFact]
    public async Task Read_between_all_edges()
    {
        await using Fixture f = await StartAsync(writable: false);
        IReadOnlyList<int> edges = Edges(f.Content.Length);
        using var buffer = new BufferPool(0).Rent(f.Content.Length + 16);
        for (int i = 0; i < edges.Count; i++)
        {
            for (int j = i + 1; j < edges.Count; j++)
            {
                int count = edges[j] - edges[i];

                // Buffers at odd addresses, with guards that must not be touched.
                Memory<byte> framed = buffer.Memory[..(count + 9)];
                framed.Span.Fill(0xA5);
                Memory<byte> wanted = framed.Slice(7, count);
                await f.Disk.ReadAsync(edges[i], wanted);
                TestPattern.AssertEqual(
                    f.Content.AsSpan(edges[i], count), wanted.Span, edges[i], $"read 0x{edges[i]:x}+0x{count:x}");
                Assert.False(framed.Span[..7].ContainsAnyExcept((byte)0xA5), "bytes before the buffer were written");
                Assert.False(framed.Span[^2..].ContainsAnyExcept((byte)0xA5), "bytes after the buffer were written");
            }
        }
    }

    [SkippableFact]
    public async Task Read_in_odd_steps_backwards()
    {
        await using Fixture f = await StartAsync(writable: false);
        var found = new byte[f.Content.Length];
        for (int end = found.Length; end > 0; end -= 1009)
        {
            int start = Math.Max(0, end - 1009);
            await f.Disk.ReadAsync(start, found.AsMemory(start, end - start));
        }

        TestPattern.AssertEqual(f.Content, found, 0, "read backwards");
    }

    [SkippableFact]
    public async Task Requests_outside_the_disk_are_refused()
    {
        await using Fixture f = await StartAsync();
        long length = f.Disk.Length;
        foreach ((long offset, int count) in ((long, int)[])
            [(length, 1), (length - 1, 2), (-1, 1), (long.MaxValue, 1), (long.MaxValue - 1, 512), (long.MinValue, 1)])
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await f.Disk.ReadAsync(offset, new byte[count]));
            Assert.Equal(BlockErrorKind.OutOfRange, e.Kind);
            Assert.NotNull(e.Node);
            if (f.Disk.CanWrite)
            {
                e = await Assert.ThrowsAsync<BlockException>(
                    async () => await f.Disk.WriteAsync(offset, new byte[count]));
                Assert.Equal(BlockErrorKind.OutOfRange, e.Kind);
                e = await Assert.ThrowsAsync<BlockException>(async () => await f.Disk.ZeroAsync(offset, count));
                Assert.Equal(BlockErrorKind.OutOfRange, e.Kind);
                e = await Assert.ThrowsAsync<BlockException>(async () => await f.Disk.DiscardAsync(offset, count));
                Assert.Equal(BlockErrorKind.OutOfRange, e.Kind);
            }
        }

        await AssertContentAsync(f.Disk, f.Content, "after refused requests");
    }

    [SkippableFact]
    public async Task Empty_read_at_the_end_is_allowed()
    {
        await using Fixture f = await StartAsync(writable: false);
        await f.Disk.ReadAsync(f.Disk.Length, Memory<byte>.Empty);
    }

    [SkippableFact]
    public async Task Map_agrees_with_reads()
    {
        await using Fixture f = await StartAsync();
        await AssertMapAgreesAsync(f);
    }

    [SkippableFact]
    public async Task Map_never_exceeds_what_was_asked()
    {
        await using Fixture f = await StartAsync(writable: false);
        foreach (int edge in Edges(f.Content.Length))
        {
            if (edge < f.Content.Length)
            {
                BlockExtent extent = await f.Disk.MapAsync(edge, 1);
                Assert.Equal(1, extent.Length);
            }
        }
    }

    [SkippableFact]
    public async Task Parallel_reads_get_their_own_bytes()
    {
        await using Fixture f = await StartAsync(writable: false);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(worker => Task.Run(async () =>
        {
            var random = new Random(worker);
            var buffer = new byte[40_000];
            for (int i = 0; i < 200; i++)
            {
                int at = random.Next(f.Content.Length);
                int count = random.Next(1, Math.Min(buffer.Length, f.Content.Length - at) + 1);
                await f.Disk.ReadAsync(at, buffer.AsMemory(0, count));
                TestPattern.AssertEqual(
                    f.Content.AsSpan(at, count), buffer.AsSpan(0, count), at, $"worker {worker}, read {i}");
            }
        })));
    }

    [SkippableFact]
    public async Task Read_only_node_refuses_changes()
    {
        await using Fixture f = await StartAsync(writable: false);
        Assert.False(f.Disk.CanWrite);
        foreach (Func<ValueTask> change in (Func<ValueTask>[])
        [
            () => f.Disk.WriteAsync(0, new byte[512]),
            () => f.Disk.ZeroAsync(0, 512),
            () => f.Disk.DiscardAsync(0, 512),
            async () => await f.Disk.TryResizeAsync(f.Disk.Length + LengthGranularity),
        ])
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await change());
            Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        }

        await f.Disk.FlushAsync();
        await AssertContentAsync(f.Disk, f.Content, "after refused changes");
    }

    [SkippableFact]
    public async Task Closing_twice_is_harmless()
    {
        await using Fixture f = await StartAsync();
        await f.Graph.CloseAsync();
        await f.Graph.CloseAsync();
        foreach (BlockNode node in f.Graph.Nodes)
        {
            await node.CloseAsync();
        }
    }

    [SkippableFact]
    public async Task Opening_for_reading_changes_no_file()
    {
        await using Fixture f = await StartAsync();
        await f.Graph.CloseAsync();
        Dictionary<string, byte[]> before = ReadFiles(f.Dir);
        f.Graph = await OpenAsync(f.Image, TestGraph.ReadOnly);
        await AssertContentAsync(f.Disk, f.Content, "read-only");
        await f.Graph.CloseAsync();
        Dictionary<string, byte[]> after = ReadFiles(f.Dir);
        Assert.Equal(before.Keys.Order(), after.Keys.Order());
        foreach ((string name, byte[] content) in before)
        {
            Assert.True(content.AsSpan().SequenceEqual(after[name]), $"{name} was changed by reading");
        }
    }

    [SkippableFact]
    public async Task Cancelled_request_does_not_touch_the_buffer_afterwards()
    {
        await using Fixture f = await StartAsync();
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        var buffer = new byte[f.Content.Length];
        try
        {
            await f.Disk.ReadAsync(0, buffer, cancelled.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or BlockException { Kind: BlockErrorKind.Cancelled })
        {
            // Either is fine; so is success. What matters is that it is over.
        }

        buffer.AsSpan().Fill(0x5A);
        await f.Disk.DrainAsync();
        await AssertContentAsync(f.Disk, f.Content, "after a cancelled read");
        Assert.False(buffer.AsSpan().ContainsAnyExcept((byte)0x5A), "the buffer was written after completion");
    }

    [SkippableFact]
    public async Task Describing_gives_the_disk_size()
    {
        await using Fixture f = await StartAsync(writable: false);
        DeviceInfo info = await f.Disk.DescribeAsync();
        Assert.Equal(f.Content.Length, info.VirtualSize);
        Assert.Equal(f.Disk.Driver, info.Format);
    }

    [SkippableFact]
    public async Task Host_file_holds_exactly_the_disk()
    {
        await using Fixture f = await StartAsync(writable: false);
        if (f.Disk.TryGetHostFile(out HostFileRegion region))
        {
            var found = new byte[f.Content.Length];
            int count = RandomAccess.Read(region.Handle, found, region.Offset);
            Assert.Equal(found.Length, count);
            TestPattern.AssertEqual(f.Content, found, 0, "host file");
            Assert.Equal(f.Content.Length, RandomAccess.GetLength(region.Handle) - region.Offset);
        }
    }

    /// <summary>Extents that read as zeroes do; extents cover the disk without end or gap.</summary>
    protected static async Task AssertMapAgreesAsync(Fixture f)
    {
        long at = 0;
        while (at < f.Disk.Length)
        {
            BlockExtent extent = await f.Disk.MapAsync(at, f.Disk.Length - at);
            Assert.InRange(extent.Length, 1, f.Disk.Length - at);
            ReadOnlySpan<byte> expected = f.Content.AsSpan((int)at, (int)extent.Length);
            Assert.False(
                extent.IsZero && expected.ContainsAnyExcept((byte)0), $"0x{at:x}+0x{extent.Length:x} mapped as zero");
            Assert.True(extent.IsZero || extent.IsData, $"0x{at:x}+0x{extent.Length:x} is neither zero nor data");
            if ((extent.Flags & ExtentFlags.HostOffset) != 0 && extent.IsData)
            {
                BlockNode host = extent.HostNode!;
                var found = new byte[Math.Min(extent.Length, host.Length - extent.HostOffset)];
                await host.ReadAsync(extent.HostOffset, found);
                TestPattern.AssertEqual(
                    f.Content.AsSpan((int)at, found.Length), found, at, "bytes at the mapped host offset");
            }

            at += extent.Length;
        }
    }

    private static Dictionary<string, byte[]> ReadFiles(TempDir dir) =>
        Directory.EnumerateFiles(dir.Path, "*", SearchOption.AllDirectories)
            .ToDictionary(path => path, File.ReadAllBytes);
}
