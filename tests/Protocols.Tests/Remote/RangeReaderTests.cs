using ImageMount.Protocols.Remote;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Remote;

/// <summary>Splitting, reading ahead, and not being wrong about what was written since.</summary>
public sealed class RangeReaderTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task A_sequential_reader_finds_most_of_its_bytes_read()
    {
        var source = new Source(4 << 20);
        var reader = source.Reader();
        var buffer = new byte[4096];
        for (int at = 0; at < source.Disk.Length; at += buffer.Length)
        {
            await reader.ReadAsync(at, buffer, default).AsTask().WaitAsync(Limit);
            TestPattern.AssertEqual(source.Disk.AsSpan(at, buffer.Length), buffer, at, "sequential");
        }

        Assert.InRange(source.Requests.Count, 1, 60); // of 1024 reads
        await reader.StopAsync();
    }

    [Fact]
    public async Task A_random_reader_causes_nothing_but_its_own_requests()
    {
        var source = new Source(64 << 20);
        var reader = source.Reader();
        var random = new Random(5);
        var buffer = new byte[4096];
        for (int i = 0; i < 200; i++)
        {
            await reader.ReadAsync(i * 7919L % 256 * 262_144, buffer, default);
        }

        Assert.All(source.Requests, request => Assert.Equal(4096, request.Count));
        _ = random;
        await reader.StopAsync();
    }

    [Fact]
    public async Task A_long_read_is_split_and_fetched_in_parallel()
    {
        var source = new Source(16 << 20) { Gate = new TaskCompletionSource() };
        var reader = source.Reader();
        var buffer = new byte[8 << 20];
        Task read = reader.ReadAsync(12_345, buffer, default).AsTask();
        Assert.True(SpinWait.SpinUntil(() => source.Requests.Count >= 8, Limit));
        Assert.False(read.IsCompleted);
        source.Gate.SetResult();
        await read.WaitAsync(Limit);
        Assert.All(source.Requests, request => Assert.InRange(request.Count, 1, 1 << 20));
        TestPattern.AssertEqual(source.Disk.AsSpan(12_345, buffer.Length), buffer, 12_345, "split");
        await reader.StopAsync();
    }

    [Fact]
    public async Task What_was_read_ahead_is_forgotten_when_it_is_written()
    {
        var source = new Source(4 << 20);
        var reader = source.Reader();
        var buffer = new byte[64 << 10];
        for (int at = 0; at < 512 << 10; at += buffer.Length)
        {
            await reader.ReadAsync(at, buffer, default);
        }

        // A block behind the reader is there by now; a write changes it, with a fetch in between.
        reader.Invalidate(600 << 10, 512);
        source.Disk.AsSpan(600 << 10, 512).Fill(0xAB);
        reader.Invalidate(600 << 10, 512);
        var small = new byte[512];
        await reader.ReadAsync(600 << 10, small, default);
        Assert.All(small, b => Assert.Equal(0xAB, b));
        await reader.StopAsync();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Readers_beside_a_writer_never_see_what_was_before_a_finished_write(int seed)
    {
        var source = new Source(2 << 20) { Yields = true };
        var reader = source.Reader();
        var random = new Random(seed);
        for (int round = 0; round < 200; round++)
        {
            int at = random.Next(source.Disk.Length - 4096);
            reader.Invalidate(at, 4096);
            lock (source.Disk)
            {
                TestPattern.Fill(source.Disk.AsSpan(at, 4096), at, random.Next());
            }

            reader.Invalidate(at, 4096);
            int from = Math.Max(0, at - 300_000);
            var buffer = new byte[32 << 10];
            for (int pos = from; pos + buffer.Length <= Math.Min(source.Disk.Length, at + 300_000); pos += buffer.Length)
            {
                await reader.ReadAsync(pos, buffer, default).AsTask().WaitAsync(Limit);
                TestPattern.AssertEqual(source.Disk.AsSpan(pos, buffer.Length), buffer, pos, $"seed {seed}, round {round}");
            }
        }

        await reader.StopAsync();
    }

    [Fact]
    public async Task A_failure_ahead_is_told_to_who_reads_there_and_to_nobody_else()
    {
        var source = new Source(4 << 20) { FailsFrom = 1 << 20 };
        var reader = source.Reader();
        var buffer = new byte[64 << 10];
        for (int at = 0; at < 1 << 20; at += buffer.Length)
        {
            await reader.ReadAsync(at, buffer, default);
        }

        await Assert.ThrowsAsync<IOException>(async () => await reader.ReadAsync(1 << 20, buffer, default));
        source.FailsFrom = int.MaxValue;
        await reader.ReadAsync(1 << 20, buffer, default);
        TestPattern.AssertEqual(source.Disk.AsSpan(1 << 20, buffer.Length), buffer, 1 << 20, "mended");
        await reader.StopAsync();
    }

    private sealed class Source(int length)
    {
        public byte[] Disk { get; } = TestPattern.Make(length, 0, 1);

        public System.Collections.Concurrent.ConcurrentQueue<(long Offset, int Count)> Requests { get; } = [];

        public TaskCompletionSource? Gate { get; init; }

        public bool Yields { get; init; }

        public int FailsFrom { get; set; } = int.MaxValue;

        public RangeReader Reader() => new(FetchAsync, () => Disk.Length, new RangeReaderOptions());

        private async ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            Requests.Enqueue((offset, buffer.Length));
            if (Yields)
            {
                await Task.Yield();
            }

            if (Gate is not null)
            {
                await Gate.Task;
            }

            if (offset + buffer.Length > FailsFrom)
            {
                throw new IOException("as ordered");
            }

            lock (Disk)
            {
                Disk.AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span);
            }
        }
    }
}
