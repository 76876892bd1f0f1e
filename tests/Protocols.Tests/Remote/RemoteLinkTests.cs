using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Remote;

/// <summary>Reconnecting, waiting and giving up, on a clock of the test's own.</summary>
public sealed class RemoteLinkTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);
    private readonly ManualClock _clock = new();
    private readonly Queue<Func<FakeSession>> _next = new();
    private int _tries;

    [Fact]
    public async Task Requests_wait_for_the_new_session_which_is_restored_first()
    {
        var restored = new TaskCompletionSource();
        await using RemoteLink<FakeSession> link = New(restored.Task);
        FakeSession first = await OpenAsync(link);
        var second = new FakeSession();
        _next.Enqueue(() => second);
        first.Abort(new BlockException(BlockErrorKind.IoError, "gone"));
        Task<LinkLease<FakeSession>> waiting = link.GetAsync(default).AsTask();
        Assert.True(SpinWait.SpinUntil(() => _tries == 2, Limit));
        Assert.False(waiting.IsCompleted);
        restored.SetResult();
        LinkLease<FakeSession> lease = await waiting.WaitAsync(Limit);
        Assert.Equal((second, 2), (lease.Session, lease.Generation));
    }

    [Fact]
    public async Task After_the_delay_requests_fail_at_once_until_the_server_is_back()
    {
        await using RemoteLink<FakeSession> link = New();
        FakeSession first = await OpenAsync(link);
        first.Abort(new BlockException(BlockErrorKind.IoError, "gone"));
        Task<LinkLease<FakeSession>> waiting = link.GetAsync(default).AsTask();
        Advance(() => waiting.IsCompleted, 1000, 40);
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => waiting);
        Assert.Contains("refused", e.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<BlockException>(() => link.GetAsync(default).AsTask());
        _next.Enqueue(() => new FakeSession());
        Advance(() => link.GetAsync(default).AsTask().ContinueWith(
            task => task.IsCompletedSuccessfully, TaskScheduler.Default).Result, 1000, 40);
    }

    [Fact]
    public async Task A_session_without_progress_is_aborted_and_one_with_progress_is_not()
    {
        await using RemoteLink<FakeSession> link = New();
        FakeSession session = await OpenAsync(link);
        for (int i = 0; i < 100; i++)
        {
            _clock.Advance(1000); // Idle.
        }

        session.Outstanding = 1;
        for (int i = 0; i < 100; i++)
        {
            session.Progress++;
            _clock.Advance(1000);
        }

        Assert.False(session.Ended.IsCompleted);
        Advance(() => session.Ended.IsCompleted, 1000, 14);
        Assert.Equal(BlockErrorKind.TimedOut, (await session.Ended).Kind);
    }

    [Fact]
    public async Task Stopping_to_wait_shortens_everything()
    {
        await using RemoteLink<FakeSession> link = New();
        FakeSession session = await OpenAsync(link);
        session.Outstanding = 1;
        link.StopWaiting(TimeSpan.FromSeconds(2));
        Advance(() => session.Ended.IsCompleted, 500, 8);
        Task<LinkLease<FakeSession>> waiting = link.GetAsync(default).AsTask();
        Advance(() => waiting.IsCompleted, 500, 8);
        await Assert.ThrowsAsync<BlockException>(() => waiting);
    }

    [Fact]
    public async Task Closing_ends_waiting_at_once()
    {
        RemoteLink<FakeSession> link = New();
        FakeSession session = await OpenAsync(link);
        session.Abort(new BlockException(BlockErrorKind.IoError, "gone"));
        Task<LinkLease<FakeSession>> waiting = link.GetAsync(default).AsTask();
        await link.DisposeAsync().AsTask().WaitAsync(Limit);
        await Assert.ThrowsAnyAsync<Exception>(() => waiting.WaitAsync(Limit));
    }

    [Fact]
    public async Task A_request_that_is_lost_again_and_again_is_given_up()
    {
        await using RemoteLink<FakeSession> link = New();
        await OpenAsync(link);
        long firstLoss = 0;
        _clock.Advance(1);
        Assert.True(link.MayRetry(ref firstLoss));
        _clock.Advance(10_000);
        Assert.True(link.MayRetry(ref firstLoss));
        _clock.Advance(1);
        Assert.False(link.MayRetry(ref firstLoss));
    }

    /// <summary>Lets time pass in steps until something has happened; continuations run on other threads.</summary>
    private void Advance(Func<bool> happened, int step, int most)
    {
        for (int i = 0; i < most; i++)
        {
            if (SpinWait.SpinUntil(happened, 100))
            {
                return;
            }

            _clock.Advance(step);
        }

        Assert.True(SpinWait.SpinUntil(happened, Limit), $"it did not happen within {most} steps of {step} ms");
    }

    private RemoteLink<FakeSession> New(Task? restore = null) => new(
        "server", new LinkPolicy
        {
            Clock = _clock,
            ReconnectDelay = TimeSpan.FromSeconds(10),
            Timeout = TimeSpan.FromSeconds(10),
        },
        _ =>
        {
            _tries++;
            return _next.TryDequeue(out Func<FakeSession>? make)
                ? Task.FromResult(make())
                : Task.FromException<FakeSession>(new BlockException(BlockErrorKind.IoError, "refused"));
        },
        (_, _) => restore ?? Task.CompletedTask);

    private async Task<FakeSession> OpenAsync(RemoteLink<FakeSession> link)
    {
        _next.Enqueue(() => new FakeSession());
        return await link.OpenAsync(default);
    }

    private sealed class FakeSession : IRemoteSession
    {
        private readonly TaskCompletionSource<BlockException> _ended =
            new(TaskCreationOptions.RunContinuationsAsynchronously);

        public int Outstanding { get; set; }

        public long Progress { get; set; }

        public Task<BlockException> Ended => _ended.Task;

        public void Abort(BlockException reason) => _ended.TrySetResult(reason);

        public ValueTask CloseAsync() => default;
    }
}
