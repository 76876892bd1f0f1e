using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>Against a target of our own: what units may say, and how often.</summary>
public sealed class IscsiProtocolTests : IscsiTestBase
{
    [Fact]
    public async Task A_disk_is_read_written_zeroed_and_discarded()
    {
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        await AssertContentAsync(graph.Root, model, "at first");
        TestPattern.Fill(model.AsSpan(1000, 300_000), 0, 9);
        await graph.Root.WriteAsync(1000, model.AsMemory(1000, 300_000));
        model.AsSpan(400_000, 100_001).Clear();
        await graph.Root.ZeroAsync(400_000, 100_001, ZeroFlags.MayUnmap);
        await graph.Root.DiscardAsync(512 * 1024, 64 * 512);
        model.AsSpan(512 * 1024, 64 * 512).Clear();
        await AssertContentAsync(graph.Root, model, "afterwards");
        Assert.False(target.Durable.AsSpan().SequenceEqual(model), "the fake has no cache");
        await graph.Root.FlushAsync();
        TestPattern.AssertEqual(model, target.Durable, 0, "durable");
    }

    [Fact]
    public async Task A_forced_write_is_durable_without_a_flush()
    {
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        int flushes = 0;
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        target.Answer = command =>
        {
            flushes += command.Operation == 0x35 ? 1 : 0;
            return null;
        };
        TestPattern.Fill(model.AsSpan(8192, 70_000 / 512 * 512), 0, 3);
        await graph.Root.WriteAsync(8192, model.AsMemory(8192, 70_000 / 512 * 512), WriteFlags.Fua);
        TestPattern.AssertEqual(model, target.Durable, 0, "durable");
        Assert.Equal(0, flushes);
    }

    [Theory]
    [InlineData(8, 0, 0)] // busy
    [InlineData(0x28, 0, 0)] // task set full
    [InlineData(0x40, 0, 0)] // task aborted
    [InlineData(2, 6, 0x3F03)] // attention: inquiry data changed
    [InlineData(2, 2, 0x0401)] // becoming ready
    [InlineData(2, 0xB, 0x4700)] // aborted command
    public async Task What_a_unit_cannot_do_just_now_is_sent_again(byte status, byte key, int code)
    {
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        var refusal = FakeScsiAnswer.Check(key, (ushort)code) with { Status = status };
        int refused = 0;
        target.Answer = command => command.Operation is 0x28 or 0x2A or 0x35 or 0x93 && ++refused % 4 != 0 ? refusal : null;
        model.AsSpan(0, 8192).Fill(5);
        await graph.Root.WriteAsync(0, model.AsMemory(0, 8192));
        model.AsSpan(65536, 512).Clear();
        await graph.Root.ZeroAsync(65536, 512);
        await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
        await AssertContentAsync(graph.Root, model, "after refusals");
        TestPattern.AssertEqual(model, target.Durable, 0, "durable");
        Assert.Equal(1, target.Accepted); // in one session
    }

    [Fact]
    public async Task A_unit_that_stays_busy_is_given_up()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        await using Graph graph = await OpenAsync(target.Uri, options: ("timeout", "1"));
        target.Answer = command => command.IsRead ? new FakeScsiAnswer(8, []) : null;
        await AssertRefusedAsync(BlockErrorKind.TimedOut, "busy", async () => await graph.Root.ReadAsync(0, new byte[512]));
    }

    [Fact]
    public async Task A_unit_that_stays_busy_does_not_hold_up_closing()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        Graph graph = await OpenAsync(target.Uri, writable: true);
        await graph.Root.WriteAsync(0, new byte[512]);
        target.Answer = command => command.Operation == 0x35 ? new FakeScsiAnswer(0x28, []) : null;
        graph.StopWaiting(TimeSpan.FromSeconds(1));
        var watch = Stopwatch.StartNew();
        await AssertRefusedAsync(BlockErrorKind.TimedOut, "busy", async () => await graph.CloseAsync());
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(15), $"{watch.Elapsed}");
    }

    [Theory]
    [InlineData(2, 3, 0x1100, BlockErrorKind.IoError, "medium error, 11/00")]
    [InlineData(2, 7, 0x2700, BlockErrorKind.ReadOnly, "write-protected")]
    [InlineData(2, 7, 0x2707, BlockErrorKind.NoSpace, "no space")]
    [InlineData(2, 2, 0x3A00, BlockErrorKind.NotFound, "no medium")]
    [InlineData(2, 4, 0x4400, BlockErrorKind.IoError, "hardware error")]
    [InlineData(2, 0, 0, BlockErrorKind.IoError, "no sense")]
    [InlineData(0x18, 0, 0, BlockErrorKind.InUse, "reserved")]
    [InlineData(0x30, 0, 0, BlockErrorKind.IoError, "status 30h")]
    public async Task Refusals_have_their_kinds(byte status, byte key, int code, BlockErrorKind kind, string words)
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        target.Answer = command => command.IsWrite ? FakeScsiAnswer.Check(key, (ushort)code) with { Status = status } : null;
        await AssertRefusedAsync(kind, words, async () => await graph.Root.WriteAsync(4096, new byte[512]));
        target.Answer = null;
        await graph.Root.WriteAsync(4096, new byte[512]);
        Assert.Equal(1, target.Accepted);
    }

    [Fact]
    public async Task Commands_that_a_unit_does_not_know_are_done_without()
    {
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        target.Answer = command => command.Operation is 0x93 or 0x42 or 0x9E or 0x1A or 0x35
            || (command.Operation == 0x12 && (command.Cdb[1] & 1) != 0) ? FakeScsiAnswer.Check(5, 0x2000) : null;
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        model.AsSpan(100, 9000).Clear();
        await graph.Root.ZeroAsync(100, 9000);
        await graph.Root.DiscardAsync(65536, 65536);
        model.AsSpan(200_000, 3000).Fill(1);
        await graph.Root.WriteAsync(200_000, model.AsMemory(200_000, 3000));
        await graph.Root.FlushAsync();
        await AssertContentAsync(graph.Root, model, "afterwards");
        Assert.True((await graph.Root.MapAsync(0, graph.Root.Length)).IsData);
    }

    [Theory]
    [InlineData(0x7F, 512, null, BlockErrorKind.NotFound, "no such logical unit")]
    [InlineData(0x20, 512, null, BlockErrorKind.NotFound, "no such logical unit")]
    [InlineData(0x01, 512, null, BlockErrorKind.NotSupported, "neither a disk nor a CD")]
    [InlineData(0x00, 520, null, BlockErrorKind.InvalidData, "blocks have an odd size")]
    [InlineData(0x00, 0, null, BlockErrorKind.InvalidData, "blocks have an odd size")]
    [InlineData(0x00, 131072, null, BlockErrorKind.InvalidData, "blocks have an odd size")]
    [InlineData(0x00, 512, ulong.MaxValue, BlockErrorKind.InvalidData, "size is not possible")]
    [InlineData(0x00, 512, 1UL << 62, BlockErrorKind.InvalidData, "size is not possible")]
    public async Task Units_that_cannot_be_used_are_refused(
        byte type, int blockLength, ulong? last, BlockErrorKind kind, string words)
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        (target.Type, target.BlockLength, target.LastBlock) = (type, blockLength, last);
        await AssertRefusedAsync(kind, words, () => OpenAsync(target.Uri));
    }

    [Fact]
    public async Task A_huge_disk_is_addressed_with_the_long_commands()
    {
        byte[] content = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(content));
        target.LastBlock = (1UL << 33) - 1;
        long first = 0;
        target.Answer = command =>
        {
            if (command.Operation == 0x88)
            {
                first = command.Block;
                return new FakeScsiAnswer(0, content[..(command.Count * 512)]);
            }

            return null;
        };
        await using Graph graph = await OpenAsync(target.Uri);
        Assert.Equal(1L << 42, graph.Root.Length);
        var found = new byte[1024];
        await graph.Root.ReadAsync((1L << 42) - 1024, found);
        Assert.Equal((1L << 33) - 2, first);
        Assert.Equal(content[..1024], found);
    }

    [Fact]
    public async Task A_medium_that_was_exchanged_is_not_read_any_more()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent(), 2048));
        target.Type = 5;
        await using Graph graph = await OpenAsync(target.Uri);
        await graph.Root.ReadAsync(0, new byte[2048]);
        target.Answer = command => command.IsRead ? FakeScsiAnswer.Check(6, 0x2800) : null;
        await AssertRefusedAsync(BlockErrorKind.IoError, "exchanged", async () => await graph.Root.ReadAsync(65536, new byte[512]));
        target.Answer = null;
        await AssertRefusedAsync(BlockErrorKind.IoError, "exchanged", async () => await graph.Root.ReadAsync(0, new byte[512]));
    }

    [Theory]
    [InlineData(0x0201, BlockErrorKind.PermissionDenied, "name and password")]
    [InlineData(0x0202, BlockErrorKind.PermissionDenied, "not for this initiator")]
    [InlineData(0x0203, BlockErrorKind.NotFound, "no such target")]
    [InlineData(0x0301, BlockErrorKind.IoError, "not ready")]
    [InlineData(0x0500, BlockErrorKind.IoError, "login failed")]
    public async Task A_refused_login_says_why(ushort status, BlockErrorKind kind, string words)
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        target.LoginStatus = status;
        await AssertRefusedAsync(kind, words, () => OpenAsync(target.Uri));
    }

    [Fact]
    public async Task Redirections_are_followed_but_not_in_circles()
    {
        byte[] content = MakeContent();
        FakeIscsiTarget good = Keep(new FakeIscsiTarget(content));
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent(2)));
        target.LoginStatus = 0x0101;
        target.LoginKeys = [$"TargetAddress=127.0.0.1:{good.Port},1"];
        await using (Graph graph = await OpenAsync(target.Uri))
        {
            await AssertContentAsync(graph.Root, content, "redirected");
        }

        target.LoginKeys = [$"TargetAddress=127.0.0.1:{target.Port},1"];
        await AssertRefusedAsync(BlockErrorKind.LimitExceeded, "at most 4", () => OpenAsync(target.Uri));
    }

    [Fact]
    public async Task A_cancelled_read_ends_at_once_and_its_late_answer_touches_nothing()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        await using Graph graph = await OpenAsync(target.Uri);
        var arrived = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        target.Before = async command =>
        {
            if (command.IsRead)
            {
                arrived.TrySetResult();
                await release.Task;
            }
        };
        using var cancel = new CancellationTokenSource();
        var buffer = new byte[65536];
        Task read = graph.Root.ReadAsync(0, buffer, cancel.Token).AsTask();
        await arrived.Task.WaitAsync(Limit);
        await cancel.CancelAsync();
        await AssertRefusedAsync(BlockErrorKind.Cancelled, "cancelled", () => read);
        buffer.AsSpan().Fill(0x77);
        release.SetResult();
        var later = new byte[512];
        await graph.Root.ReadAsync(70_000 / 512 * 512, later).AsTask().WaitAsync(Limit);
        Assert.False(buffer.AsSpan().ContainsAnyExcept((byte)0x77), "a cancelled read was filled");
    }

    [Fact]
    public async Task A_target_that_does_not_answer_is_given_up_in_time()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        var watch = Stopwatch.StartNew();
        await using (Graph graph = await OpenAsync(
            target.Uri, options: [("timeout", "1"), ("reconnect-delay", "0")]))
        {
            target.IsSilent = true;
            await AssertRefusedAsync(
                BlockErrorKind.TimedOut, "did not answer", async () => await graph.Root.ReadAsync(0, new byte[512]));
        }

        await AssertRefusedAsync(
            BlockErrorKind.TimedOut, "did not answer", () => OpenAsync(target.Uri, options: ("timeout", "1")));
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{watch.Elapsed}");
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "nobody listens", () => OpenAsync($"iscsi://127.0.0.1:1/{FakeIscsiTarget.Target}/1"));
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "no such host", () => OpenAsync($"iscsi://no-such-host.invalid/{FakeIscsiTarget.Target}/1"));
    }
}
