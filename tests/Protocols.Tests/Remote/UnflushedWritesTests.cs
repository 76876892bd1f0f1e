using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Tests.Remote;

/// <summary>The log of what a server has acknowledged and not flushed.</summary>
public sealed class UnflushedWritesTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task Overlapping_changes_go_one_after_another_and_others_do_not_wait()
    {
        using UnflushedWrites log = New();
        long first = await log.BeginAsync(0, 1000, default);
        ValueTask<long> overlapping = log.BeginAsync(999, 1, default);
        Assert.False(overlapping.IsCompleted);
        ValueTask<long> beside = log.BeginAsync(1000, 10, default);
        Assert.True(beside.IsCompleted);
        Assert.True(log.TryAcknowledge(first, 1, ChangeKind.Data, new byte[1000], false));
        long second = await overlapping.AsTask().WaitAsync(Limit);
        log.Abandon(second);
        log.Abandon(await beside);
    }

    [Fact]
    public async Task A_flush_covers_what_was_acknowledged_before_it_was_sent()
    {
        using UnflushedWrites log = New();
        await ChangeAsync(log, 0, 1);
        long mark = log.Mark();
        await ChangeAsync(log, 512, 2);
        log.Flushed(mark, 1);
        Assert.Equal([(512L, (byte)2)], await ReplayAsync(log, 2));
        log.Flushed(log.Mark(), 2);
        Assert.True(log.IsEmpty);
        Assert.Equal(0, log.Bytes);
    }

    [Fact]
    public async Task Replay_keeps_the_order_of_overlapping_changes()
    {
        using UnflushedWrites log = New();
        for (byte i = 0; i < 40; i++)
        {
            await ChangeAsync(log, i % 3 * 256, i);
        }

        var disk = new byte[2048];
        await log.ReplayAsync(2, async change =>
        {
            await Task.Yield();
            change.Data.Span.CopyTo(disk.AsSpan((int)change.Offset));
            return null;
        }, 8);
        // Change 39 ends at 511; behind it stands what 38 and then 37 left.
        Assert.Equal([(byte)39, (byte)39, (byte)38, (byte)38], [disk[0], disk[511], disk[512], disk[1023]]);
    }

    [Fact]
    public async Task Answers_of_an_earlier_session_do_not_count()
    {
        using UnflushedWrites log = New();
        await ChangeAsync(log, 0, 1);
        long late = await log.BeginAsync(512, 512, default);
        long mark = log.Mark();
        await ReplayAsync(log, 2);
        log.Flushed(mark, 1);
        Assert.False(log.IsEmpty, "a flush of a server that is gone was believed");
        Assert.False(log.TryAcknowledge(late, 1, ChangeKind.Data, new byte[512], false));
        Assert.True(log.TryAcknowledge(late, 2, ChangeKind.Data, new byte[512], false));
    }

    [Fact]
    public async Task A_replay_that_breaks_off_is_repeated_whole()
    {
        using UnflushedWrites log = New();
        await ChangeAsync(log, 0, 1);
        await ChangeAsync(log, 1024, 2);
        await Assert.ThrowsAsync<BlockException>(() => log.ReplayAsync(
            2, change => change.Offset == 0 ? Task.FromResult<BlockException?>(null)
                : throw new BlockException(BlockErrorKind.IoError, "gone again"), 4));
        Assert.Equal(2, (await ReplayAsync(log, 3)).Count);
    }

    [Fact]
    public async Task What_cannot_be_written_again_fails_every_later_flush()
    {
        using UnflushedWrites log = New();
        await ChangeAsync(log, 4096, 1);
        await log.ReplayAsync(
            2, _ => Task.FromResult<BlockException?>(new BlockException(BlockErrorKind.NoSpace, "full")), 4);
        for (int i = 0; i < 2; i++)
        {
            BlockException e = Assert.Throws<BlockException>(() => log.Mark());
            Assert.Equal((BlockErrorKind.NoSpace, 4096L), (e.Kind, e.Offset));
        }
    }

    [Fact]
    public async Task A_full_log_flushes_and_lets_changes_wait_for_it()
    {
        UnflushedWrites? log = null;
        var gate = new TaskCompletionSource();
        int flushes = 0;
        log = new UnflushedWrites(64 << 10, async _ =>
        {
            flushes++;
            await gate.Task;
            log!.Flushed(log.Mark(), 1);
        });
        for (int i = 0; i < 16; i++)
        {
            await ChangeAsync(log, i * 4096, 1, 4096);
        }

        ValueTask<long> next = log.BeginAsync(1 << 20, 4096, default);
        Assert.False(next.IsCompleted);
        gate.SetResult();
        log.Abandon(await next.AsTask().WaitAsync(Limit));
        Assert.InRange(flushes, 1, 3);
        Assert.InRange(log.Bytes, 0, 64 << 10);
        log.Dispose();
    }

    [Fact]
    public async Task Durable_changes_are_not_kept()
    {
        using UnflushedWrites log = New();
        long ticket = await log.BeginAsync(0, 512, default);
        Assert.True(log.TryAcknowledge(ticket, 1, ChangeKind.Data, new byte[512], true));
        Assert.True(log.IsEmpty);
    }

    [Fact]
    public async Task A_durable_change_over_one_that_is_not_comes_after_it_in_a_replay()
    {
        using UnflushedWrites log = New();
        await ChangeAsync(log, 0, 1, 1024);
        long ticket = await log.BeginAsync(512, 512, default);
        Assert.True(log.TryAcknowledge(ticket, 1, ChangeKind.Data, Enumerable.Repeat((byte)2, 512).ToArray(), true));
        Assert.Equal([(0L, (byte)1), (512L, (byte)2)], await ReplayAsync(log, 2));
    }

    private static UnflushedWrites New() => new(1 << 20, _ => Task.CompletedTask);

    private static async Task ChangeAsync(UnflushedWrites log, long offset, byte value, int count = 512)
    {
        long ticket = await log.BeginAsync(offset, count, default);
        var data = new byte[count];
        data.AsSpan().Fill(value);
        Assert.True(log.TryAcknowledge(ticket, 1, ChangeKind.Data, data, false));
        data.AsSpan().Fill(0xEE); // It belongs to the caller again.
    }

    private static async Task<List<(long Offset, byte Value)>> ReplayAsync(UnflushedWrites log, int generation)
    {
        var seen = new List<(long, byte)>();
        await log.ReplayAsync(generation, change =>
        {
            seen.Add((change.Offset, change.Data.Span[0]));
            return Task.FromResult<BlockException?>(null);
        }, 1);
        return seen;
    }
}
