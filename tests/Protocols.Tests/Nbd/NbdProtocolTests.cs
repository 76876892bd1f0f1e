using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>Every style and extension of the protocol, with the fake server.</summary>
public sealed class NbdProtocolTests : NbdTestBase
{
    public static TheoryData<FakeNbdStyle, uint[], string> Dialects => new()
    {
        { FakeNbdStyle.Old, [], "oldstyle" },
        { FakeNbdStyle.New, [], "newstyle" },
        { FakeNbdStyle.Fixed, [], "fixed newstyle" },
        { FakeNbdStyle.Fixed, [7], "fixed newstyle" },
        { FakeNbdStyle.Fixed, [8], "fixed newstyle, structured replies" },
        { FakeNbdStyle.Fixed, [7, 8], "fixed newstyle, structured replies" },
        { FakeNbdStyle.Fixed, [7, 8, 10], "fixed newstyle, structured replies" },
        { FakeNbdStyle.Fixed, [7, 8, 10, 11], "fixed newstyle, extended headers" },
    };

    [Theory]
    [MemberData(nameof(Dialects))]
    public async Task Every_dialect_reads_and_writes(FakeNbdStyle style, uint[] options, string expected)
    {
        using FakeNbdServer server = Fake(s =>
        {
            s.Style = style;
            s.Options.IntersectWith(options);
        });
        byte[] model = MakeContent();
        string uri = style == FakeNbdStyle.Old ? server.Uri.Replace("/disk?", "/?", StringComparison.Ordinal) : server.Uri;
        await using Graph graph = await OpenAsync(uri, writable: true);
        BlockNode disk = graph.Root;
        Assert.Equal(expected, (string)(await disk.DescribeAsync()).FormatSpecific[0].Value);
        await AssertContentAsync(disk, model, "at first");
        TestPattern.Fill(model.AsSpan(1000, 70_000), 1000, 5);
        await disk.WriteAsync(1000, model.AsMemory(1000, 70_000));
        model.AsSpan(100_000, 5000).Clear();
        await disk.ZeroAsync(100_000, 5000, ZeroFlags.MayUnmap);
        await disk.DiscardAsync(65536, 65536);
        TestPattern.Fill(model.AsSpan(300_000, 512), 300_000, 6);
        await disk.WriteAsync(300_000, model.AsMemory(300_000, 512), WriteFlags.Fua);
        await AssertContentAsync(disk, model, "after changes");
        await disk.FlushAsync();
        Assert.True(server.Durable.AsSpan().SequenceEqual(model), "not all was flushed");
        BlockExtent extent = await disk.MapAsync(0, disk.Length);
        Assert.True(extent.IsData);
        Assert.Equal(options.Contains(10u) ? disk.Length / 2 : disk.Length, extent.Length);
        Assert.Equal(disk.Length - extent.Length, options.Contains(10u) ? (await disk.MapAsync(extent.Length,
            disk.Length - extent.Length)).Length : 0);
    }

    [Fact]
    public async Task An_unknown_export_tells_which_there_are()
    {
        using FakeNbdServer server = Fake();
        BlockException e = await AssertRefusedAsync(
            BlockErrorKind.NotFound, "It has: 'disk'.",
            () => OpenAsync(server.Uri.Replace("/disk?", "/nope?", StringComparison.Ordinal)));
        Assert.Contains("no such?export", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Block_sizes_of_the_server_are_kept()
    {
        using FakeNbdServer server = Fake(s => s.Blocks = (4096, 65536, 1 << 20));
        server.Size = 8 * 65536;
        var seen = new List<FakeNbdRequest>();
        server.Answer = request =>
        {
            lock (seen)
            {
                seen.Add(request);
            }

            return null;
        };
        await using Graph graph = await OpenAsync(server.Uri, writable: true);
        byte[] model = MakeContent()[..(8 * 65536)];
        await AssertContentAsync(graph.Root, model, "blocks");
        await graph.Root.WriteAsync(777, new byte[1000]);
        model.AsSpan(777, 1000).Clear();
        await AssertContentAsync(graph.Root, model, "blocks, after a write");
        Assert.All(seen.Where(r => r.Command is 0 or 1), r => Assert.True(
            r.Offset % 4096 == 0 && r.Length % 4096 == 0 && r.Length <= 1 << 20, r.ToString()));
    }

    [Fact]
    public async Task A_read_only_export_is_not_opened_for_writing()
    {
        using FakeNbdServer server = Fake(s => s.Flags = 1 | 2 | 4);
        await AssertRefusedAsync(
            BlockErrorKind.ReadOnly, "reading only", () => OpenAsync(server.Uri, writable: true));
        await using Graph graph = await OpenAsync(server.Uri);
        await AssertContentAsync(graph.Root, MakeContent(), "read-only");
    }

    [Fact]
    public async Task Several_connections_are_used_when_the_server_allows_it()
    {
        using FakeNbdServer server = Fake(s => s.Flags |= 256);
        var gate = new TaskCompletionSource();
        server.Before = async request =>
        {
            if (request.Command == 1 && server.Accepted < 2)
            {
                await gate.Task;
            }
        };
        await using Graph graph = await OpenAsync(server.Uri, writable: true, null, ("connections", "3"));
        Task[] writes = [.. Enumerable.Range(0, 12).Select(
            i => graph.Root.WriteAsync(i * 40_960, new byte[512]).AsTask())];
        Assert.True(SpinWait.SpinUntil(() => server.Accepted >= 2, Limit), "no second connection");
        gate.SetResult();
        await Task.WhenAll(writes).WaitAsync(Limit);
        Assert.InRange(server.Accepted, 2, 3);
    }

    [Theory]
    [InlineData(5u, BlockErrorKind.IoError, "EIO")]
    [InlineData(28u, BlockErrorKind.NoSpace, "ENOSPC")]
    [InlineData(1u, BlockErrorKind.ReadOnly, "EPERM")]
    [InlineData(4711u, BlockErrorKind.IoError, "EINVAL")]
    public async Task An_error_of_the_server_is_told_and_harms_nothing_else(uint error, BlockErrorKind kind, string words)
    {
        using FakeNbdServer server = Fake(s => s.Options.Clear());
        bool fails = true;
        server.Answer = request => request.Command is 0 or 1 && fails ? FakeNbdServer.Simple(request.Cookie, error) : null;
        await using Graph graph = await OpenAsync(server.Uri, writable: true);
        await AssertRefusedAsync(kind, words, async () => await graph.Root.ReadAsync(0, new byte[512]));
        await AssertRefusedAsync(kind, words, async () => await graph.Root.WriteAsync(0, new byte[512]));
        fails = false;
        await graph.Root.WriteAsync(0, server.Durable.AsMemory(0, 512));
        await AssertContentAsync(graph.Root, MakeContent(), "afterwards");
    }

    [Fact]
    public async Task A_cancelled_read_ends_at_once_and_its_buffer_is_left_alone()
    {
        using FakeNbdServer server = Fake();
        var gate = new TaskCompletionSource();
        var arrived = new TaskCompletionSource();
        server.Before = async request =>
        {
            if (request.Command == 0)
            {
                arrived.TrySetResult();
                await gate.Task;
            }
        };
        await using Graph graph = await OpenAsync(server.Uri);
        using var cancel = new CancellationTokenSource();
        var buffer = new byte[4096];
        Task read = graph.Root.ReadAsync(0, buffer, cancel.Token).AsTask();
        await arrived.Task.WaitAsync(Limit);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => read.WaitAsync(Limit));
        buffer.AsSpan().Fill(0x5A);
        gate.SetResult();
        await AssertContentAsync(graph.Root, MakeContent(), "after a cancelled read");
        Assert.False(buffer.AsSpan().ContainsAnyExcept((byte)0x5A), "the buffer was written after completion");
    }

    [Fact]
    public async Task Fast_zeroing_falls_back_to_slow_zeroing()
    {
        using FakeNbdServer server = Fake(s => s.Options.Clear());
        var flags = new List<ushort>();
        server.Answer = request =>
        {
            if (request.Command == 6)
            {
                flags.Add(request.Flags);
                return (request.Flags & 16) != 0 ? FakeNbdServer.Simple(request.Cookie, 95) : null;
            }

            return null;
        };
        await using Graph graph = await OpenAsync(server.Uri, writable: true);
        await graph.Root.ZeroAsync(0, 65536);
        await graph.Root.ZeroAsync(0, 65536, ZeroFlags.MayUnmap);
        Assert.Equal([16 | 2, 2, 0], flags.Select(flag => (int)flag));
    }

    [Fact]
    public async Task Prefetching_asks_the_server_to_cache()
    {
        using FakeNbdServer server = Fake();
        int asked = 0;
        server.Answer = request =>
        {
            asked += request.Command == 5 ? 1 : 0;
            return null;
        };
        await using Graph graph = await OpenAsync(server.Uri);
        Assert.True(await ((IPrefetch)graph.Root.Device).TryPrefetchAsync(0, 65536, CancellationToken.None));
        Assert.Equal(1, asked);
    }
}
