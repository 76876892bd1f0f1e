using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Interop;
using ImageMount.Protocols.Gluster;
using ImageMount.Protocols.Remote;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Gluster;

/// <summary>Everything that the library may do with a request.</summary>
public sealed class GlusterOutcomeTests : GlusterTestBase
{
    private static readonly LinkPolicy Hasty = Patient with
    {
        Timeout = TimeSpan.FromSeconds(1),
        ReconnectDelay = TimeSpan.FromSeconds(1),
        TryTimeout = TimeSpan.FromSeconds(1),
    };

    [Fact]
    public async Task Answers_of_any_length_on_any_thread_make_the_same_disk()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        var random = new Random(11);
        library.Decide = command =>
        {
            lock (random)
            {
                return random.Next(4) switch
                {
                    0 when command.Operation <= GfapiOperation.Write => (FakeGfapiDoes.Short, random.Next(1, 70_000)),
                    1 => (FakeGfapiDoes.AtOnce, 0),
                    2 => (FakeGfapiDoes.Twice, 0),
                    _ => (FakeGfapiDoes.Usual, 0),
                };
            }
        };
        await using (var disk = await Disk.OpenAsync(this, library))
        {
            await AssertContentAsync(disk.Device, model, "at first");
            for (int i = 0; i < 100; i++)
            {
                int at = random.Next(model.Length - 1);
                await WriteAsync(disk.Device, model, at, Math.Min(random.Next(1, 90_000), model.Length - at), i);
            }

            await AssertContentAsync(disk.Device, model, "after writes");
            await FlushAsync(disk.Device);
            Assert.Equal(model, library.Durable);
        }

        Assert.Equal(0, library.OpenFiles);
    }

    [Theory]
    [InlineData(Errno.EIO, BlockErrorKind.IoError)]
    [InlineData(Errno.ENOSPC, BlockErrorKind.NoSpace)]
    [InlineData(Errno.EDQUOT, BlockErrorKind.NoSpace)]
    [InlineData(Errno.EACCES, BlockErrorKind.PermissionDenied)]
    [InlineData(Errno.EROFS, BlockErrorKind.ReadOnly)]
    [InlineData(Errno.ESTALE, BlockErrorKind.IoError)]
    public async Task A_refusal_is_told_once_and_the_disk_goes_on(int errno, BlockErrorKind kind)
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        await using var disk = await Disk.OpenAsync(this, library);
        foreach (FakeGfapiDoes does in (FakeGfapiDoes[])[FakeGfapiDoes.Fail, FakeGfapiDoes.Refuse])
        {
            library.Decide = _ => (does, errno);
            BlockException e = await AssertRefusedAsync(kind, "cannot read", () => ReadAsync(disk.Device, 5000, 100));
            Assert.Equal((errno, 5000), (e.Errno, e.Offset));
            await AssertRefusedAsync(kind, "cannot write", () => WriteAsync(disk.Device, [.. model], 7000, 100, 3));
            await AssertRefusedAsync(
                kind, "cannot zero",
                () => disk.Device.TryZeroAsync(0, 100, ZeroFlags.None, CancellationToken.None).AsTask());
            await AssertRefusedAsync(
                kind, "size", () => disk.Device.TryResizeAsync(400_000, CancellationToken.None).AsTask());
        }

        library.Decide = _ => (FakeGfapiDoes.Usual, 0);
        await AssertContentAsync(disk.Device, model, "afterwards");
        Assert.Equal(1, library.Opens);
    }

    [Fact]
    public async Task A_flush_that_was_refused_fails_for_good()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        Disk disk = await Disk.OpenAsync(this, library);
        await WriteAsync(disk.Device, model, 0, 1000, 5);
        library.Decide = command => command.Operation == GfapiOperation.Sync ? (FakeGfapiDoes.Fail, Errno.EIO) : (0, 0);
        await AssertRefusedAsync(BlockErrorKind.IoError, "cannot flush", () => FlushAsync(disk.Device));
        library.Decide = _ => (FakeGfapiDoes.Usual, 0);
        await AssertRefusedAsync(BlockErrorKind.IoError, "cannot flush", () => FlushAsync(disk.Device));
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "cannot flush", () => disk.Device.CloseAsync().AsTask().WaitAsync(Limit));
    }

    [Fact]
    public async Task What_is_not_clear_is_asked_again()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        await using var disk = await Disk.OpenAsync(this, library);
        int left = 20;
        library.Decide = _ => Interlocked.Decrement(ref left) > 0
            ? (FakeGfapiDoes.Fail, left % 2 == 0 ? GfapiFile.UnknownErrno : Errno.EAGAIN) : (FakeGfapiDoes.Usual, 0);
        await WriteAsync(disk.Device, model, 100, 5000, 8);
        left = 20;
        await FlushAsync(disk.Device);
        Assert.Equal(model, library.Durable);
        left = 20;
        await AssertContentAsync(disk.Device, model, "in the end");
        library.Decide = _ => (FakeGfapiDoes.Fail, GfapiFile.UnknownErrno);
        await AssertRefusedAsync(BlockErrorKind.IoError, "it failed", () => ReadAsync(disk.Device, 0, 10));
    }

    [Fact]
    public async Task A_file_that_has_become_shorter_is_told()
    {
        FakeGfapi library = Fake(MakeContent());
        await using var disk = await Disk.OpenAsync(this, library);
        library.Disk = library.Disk[..1000];
        await AssertRefusedAsync(BlockErrorKind.IoError, "shorter", () => ReadAsync(disk.Device, 900, 200));
    }

    [Fact]
    public async Task What_the_volume_cannot_do_is_false()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        await using var disk = await Disk.OpenAsync(this, library);
        library.Decide = command => command.Operation is GfapiOperation.Zero or GfapiOperation.Discard
            ? (FakeGfapiDoes.Fail, Errno.EOPNOTSUPP) : (FakeGfapiDoes.Usual, 0);
        Assert.False(await disk.Device.TryZeroAsync(0, 1000, ZeroFlags.MayUnmap, CancellationToken.None));
        Assert.False(await disk.Device.TryDiscardAsync(0, 1000, CancellationToken.None));
        await AssertContentAsync(disk.Device, model, "untouched");
        int asked = library.Commands.Count;
        Assert.False(await disk.Device.TryZeroAsync(0, 1000, ZeroFlags.None, CancellationToken.None));
        Assert.Equal(asked, library.Commands.Count);
    }

    [Fact]
    public async Task Sixty_four_requests_at_most_are_in_the_library()
    {
        FakeGfapi library = Fake(MakeContent(2 << 20));
        await using var disk = await Disk.OpenAsync(this, library);
        library.Decide = _ => (FakeGfapiDoes.Hold, 0);
        byte[] model = new byte[2 << 20];
        Task[] writes = [.. Enumerable.Range(0, 200).Select(i => WriteAsync(disk.Device, model, i * 10_000, 1000, i))];
        WaitUntil(
            () => library.Held.Length == GlusterSession.Depth,
            () => $"{library.Held.Length} of {library.Commands.Count}, {writes.Count(write => write.IsCompleted)} are done");
        while (writes.Any(write => !write.IsCompleted))
        {
            Array.ForEach(library.Held, held => library.Release(held));
        }

        library.Decide = _ => (FakeGfapiDoes.Usual, 0);
        await Task.WhenAll(writes);
        Assert.Equal(GlusterSession.Depth, library.MostAtOnce);
    }

    [Fact]
    public async Task A_cancelled_read_ends_at_once_and_its_late_answer_touches_nothing()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        await using var disk = await Disk.OpenAsync(this, library);
        library.Decide = _ => (FakeGfapiDoes.Hold, 0);
        using var cancel = new CancellationTokenSource();
        var buffer = new byte[1000];
        Task read = disk.Device.ReadAsync(0, buffer, cancel.Token).AsTask();
        WaitUntil(() => library.Held.Length == 1, "it was not sent");
        await cancel.CancelAsync();
        await AssertRefusedAsync(BlockErrorKind.Cancelled, "cancelled", () => read.WaitAsync(Limit));
        library.Release(library.Held[0]);
        Assert.All(buffer, one => Assert.Equal(0, one));
        library.Decide = _ => (FakeGfapiDoes.Usual, 0);
        await AssertContentAsync(disk.Device, model, "afterwards");
    }

    [Fact]
    public async Task A_read_whose_end_is_never_told_fails_in_time_and_its_memory_is_not_used_again()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        Disk disk = await Disk.OpenAsync(this, library, Hasty with { ReconnectDelay = TimeSpan.Zero });
        library.Decide = _ => (FakeGfapiDoes.Hold, 0);
        await AssertRefusedAsync(BlockErrorKind.TimedOut, "did not answer", () => ReadAsync(disk.Device, 0, 1000));
        FakeGfapi.FakeHeld late = Assert.Single(library.Held);
        library.Decide = _ => (FakeGfapiDoes.Usual, 0);
        WaitUntil(() => Reads(disk.Device).Result, "it did not come back");

        // The library still has that memory: whatever is rented now is not the same.
        var leases = Enumerable.Range(0, 100).Select(_ => BufferPool.Shared.Rent(1000)).ToArray();
        leases.ToList().ForEach(lease => lease.Span.Clear());
        late.Command.Buffer.Span.Fill(0xEE);
        Assert.All(leases, lease => Assert.False(lease.Span.ContainsAnyExcept((byte)0)));
        Array.ForEach(leases, lease => lease.Dispose());
        await AssertContentAsync(disk.Device, model, "afterwards");

        // It is closed when the library is done with it, not before (the fake asserts that).
        await disk.Device.CloseAsync().AsTask().WaitAsync(Limit);
        Assert.Equal(1, library.OpenFiles);
        library.Release(late);
        WaitUntil(() => library.OpenFiles == 0, "the file stays open");
    }

    [Fact]
    public async Task One_request_that_is_forgotten_does_not_hide_behind_others_that_go_on()
    {
        FakeGfapi library = Fake(MakeContent());
        Disk disk = await Disk.OpenAsync(this, library, Hasty with { ReconnectDelay = TimeSpan.Zero });
        library.Decide = command => command.Offset == 5000 ? (FakeGfapiDoes.Hold, 0) : (FakeGfapiDoes.Usual, 0);
        Task stuck = ReadAsync(disk.Device, 5000, 10);
        while (!stuck.IsCompleted)
        {
            await Reads(disk.Device); // Others go on, or fail with it.
        }

        await AssertRefusedAsync(BlockErrorKind.TimedOut, "did not answer", () => stuck);
        library.Release(library.Held[0]);
        await disk.Device.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task A_write_that_comes_back_late_cannot_undo_a_newer_one()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        LinkPolicy policy = Hasty with
        {
            TryTimeout = TimeSpan.FromMilliseconds(200),
            ReconnectDelay = TimeSpan.FromSeconds(3),
        };
        Disk disk = await Disk.OpenAsync(this, library, policy);
        library.Decide = command => command.Operation == GfapiOperation.Write
            ? (FakeGfapiDoes.Hold, 0) : (FakeGfapiDoes.Usual, 0);
        await Assert.ThrowsAsync<BlockException>(() => WriteAsync(disk.Device, model, 1000, 500, 20));
        FakeGfapi.FakeHeld late = Assert.Single(library.Held);
        library.Decide = _ => (FakeGfapiDoes.Usual, 0);

        // As long as nobody knows what becomes of it, nothing else is done to the disk.
        await AssertRefusedAsync(
            BlockErrorKind.TimedOut, "earlier writes", () => WriteAsync(disk.Device, [.. model], 1000, 500, 21));
        Assert.Equal(1, library.Opens);
        library.Release(late);
        bool isBack = false;
        WaitUntil(() => isBack = Writes(disk.Device, model).Result, "it did not come back");
        Assert.True(isBack);
        await FlushAsync(disk.Device);
        Assert.Equal(model, library.Durable);
        await disk.Device.CloseAsync().AsTask().WaitAsync(Limit);

        async Task<bool> Writes(GlusterDevice device, byte[] content)
        {
            try
            {
                await WriteAsync(device, content, 1000, 500, 22);
                return true;
            }
            catch (BlockException)
            {
                return false;
            }
        }
    }

    [Fact]
    public async Task A_stalled_library_does_not_hold_up_closing()
    {
        FakeGfapi library = Fake(MakeContent());
        Disk disk = await Disk.OpenAsync(this, library, Patient with { Timeout = TimeSpan.Zero });
        library.Decide = _ => (FakeGfapiDoes.Hold, 0);
        Task write = WriteAsync(disk.Device, MakeContent(), 0, 100, 1);
        WaitUntil(() => library.Held.Length == 1, "it was not sent");
        disk.Device.StopWaiting(TimeSpan.FromMilliseconds(200));
        await Assert.ThrowsAsync<BlockException>(() => write);
        await disk.Device.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task Maps_come_from_the_volume_and_are_data_where_it_fails()
    {
        FakeGfapi library = Fake(MakeContent());
        library.OnSeek = (offset, whence) => whence == SysLseek.SEEK_DATA
            ? (offset < 4096 ? offset : offset < 65536 ? 65536 : offset) : offset < 4096 ? 4096 : 300_001;
        await using var disk = await Disk.OpenAsync(this, library);
        Assert.Equal((4096, true), await MapAsync(disk.Device, 0));
        Assert.Equal((61440, false), await MapAsync(disk.Device, 4096));
        Assert.Equal((300_001 - 65536, true), await MapAsync(disk.Device, 65536));

        // An answer before the question: nothing is believed any more.
        await WriteAsync(disk.Device, MakeContent(), 0, 10, 3);
        library.OnSeek = (offset, _) => offset - 1;
        Assert.Equal((200_001, true), await MapAsync(disk.Device, 100_000));

        static async Task<(long, bool)> MapAsync(GlusterDevice device, long at)
        {
            BlockExtent extent = await device.MapAsync(at, 300_001 - at, CancellationToken.None);
            return (extent.Length, (extent.Flags & ExtentFlags.Data) != 0);
        }
    }

    private static async Task<bool> Reads(GlusterDevice disk)
    {
        try
        {
            await ReadAsync(disk, 0, 100);
            return true;
        }
        catch (BlockException)
        {
            return false;
        }
    }

    /// <summary>Closes what it opened.</summary>
    internal sealed class Disk(GlusterDevice device) : IAsyncDisposable
    {
        public GlusterDevice Device { get; } = device;

        public static async Task<Disk> OpenAsync(GlusterOutcomeTests test, FakeGfapi library, LinkPolicy? policy = null) =>
            new(await test.OpenAsync(library, writable: true, policy));

        public ValueTask DisposeAsync() => new(Device.CloseAsync().AsTask().WaitAsync(Limit));
    }
}
