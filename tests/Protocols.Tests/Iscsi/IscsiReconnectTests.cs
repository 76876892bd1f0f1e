using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>Targets that crash (with a write cache that forgets), are reset, or come back as something else.</summary>
public sealed class IscsiReconnectTests(ITestOutputHelper output) : IscsiTestBase
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Acknowledged_writes_survive_a_crash_or_a_reset_before_the_flush(bool isReset)
    {
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        TestPattern.Fill(model.AsSpan(0, 100_352), 0, 9);
        await graph.Root.WriteAsync(0, model.AsMemory(0, 100_352));
        TestPattern.Fill(model.AsSpan(50_176, 512), 50_176, 10); // over the first: order matters
        await graph.Root.WriteAsync(50_176, model.AsMemory(50_176, 512));
        model.AsSpan(131_072, 4096).Clear();
        await graph.Root.ZeroAsync(131_072, 4096);
        if (isReset)
        {
            target.Forget();
            int told = 0;
            target.Answer = command => command.Operation == 0x28 && told++ == 0 ? FakeScsiAnswer.Check(6, 0x2900) : null;
        }
        else
        {
            target.Crash();
            target.Start();
        }

        await AssertContentAsync(graph.Root, model, "after the crash");
        await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(model, target.Durable, 0, "a flush succeeded without all the writes");
        Assert.Equal(2, target.Accepted);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Random_writes_through_random_crashes_lose_nothing(int seed)
    {
        output.WriteLine($"seed {seed}");
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);

        // After some commands, but not for ever: what has to be written again must get through at last.
        var chance = new Random(seed);
        int left = chance.Next(1, 20);
        int crashes = 0;
        target.Before = command =>
        {
            if ((command.IsRead || command.IsWrite || command.Operation is 0x35 or 0x93)
                && Interlocked.Decrement(ref left) == 0 && ++crashes <= 12)
            {
                left = chance.Next(1, 60);
                target.Crash();
                target.Start();
                throw new IOException("crashed");
            }

            return Task.CompletedTask;
        };
        int part = model.Length / 4 / 512 * 512;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(worker => Task.Run(async () =>
        {
            var random = new Random((seed * 100) + worker);
            for (int i = 0; i < 50; i++)
            {
                int at = (worker * part) + (random.Next(part / 512) * 512);
                int count = Math.Min(random.Next(1, 150) * 512, ((worker + 1) * part) - at);
                switch (random.Next(6))
                {
                    case 0:
                        await graph.Root.FlushAsync();
                        break;
                    case 1:
                        model.AsSpan(at, count).Clear();
                        await graph.Root.ZeroAsync(at, count, random.Next(2) == 0 ? ZeroFlags.MayUnmap : ZeroFlags.None);
                        break;
                    case 2:
                        var found = new byte[count];
                        await graph.Root.ReadAsync(at, found);
                        TestPattern.AssertEqual(model.AsSpan(at, count), found, at, $"seed {seed}, worker {worker}, {i}");
                        break;
                    default:
                        TestPattern.Fill(model.AsSpan(at, count), at, random.Next());
                        await graph.Root.WriteAsync(
                            at, model.AsMemory(at, count), random.Next(4) == 0 ? WriteFlags.Fua : WriteFlags.None);
                        break;
                }
            }
        }))).WaitAsync(Limit);
        await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(model, target.Durable, 0, $"seed {seed}: durable after the last flush");
        await AssertContentAsync(graph.Root, model, $"seed {seed}: at the end");
        output.WriteLine($"{target.Accepted} connections");
        Assert.True(target.Accepted > 3, $"{target.Accepted}");
    }

    [Fact]
    public async Task A_write_that_cannot_be_repeated_makes_every_flush_fail()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        Graph graph = await OpenAsync(target.Uri, writable: true);
        await graph.Root.WriteAsync(0, new byte[4096]);
        target.Crash();
        target.Answer = command => command.IsWrite ? FakeScsiAnswer.Check(7, 0x2707) : null;
        target.Start();
        for (int i = 0; i < 2; i++)
        {
            await AssertRefusedAsync(
                BlockErrorKind.NoSpace, "could not be written again", () => graph.Root.FlushAsync().AsTask());
        }

        await Assert.ThrowsAsync<BlockException>(() => graph.CloseAsync().AsTask().WaitAsync(Limit));
    }

    [Fact]
    public async Task A_failed_flush_is_remembered()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        Graph graph = await OpenAsync(target.Uri, writable: true);
        target.Answer = command => command.Operation == 0x35 ? FakeScsiAnswer.Check(3, 0x0C00) : null;
        await graph.Root.WriteAsync(0, new byte[4096]);
        await AssertRefusedAsync(BlockErrorKind.IoError, "flush", async () => await graph.Root.FlushAsync());
        target.Answer = null;
        await AssertRefusedAsync(BlockErrorKind.IoError, "flush", async () => await graph.Root.FlushAsync());
        await Assert.ThrowsAsync<BlockException>(async () => await graph.CloseAsync());
    }

    [Fact]
    public async Task A_target_that_comes_back_with_another_disk_is_not_used()
    {
        byte[] content = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(content));
        await using Graph graph = await OpenAsync(target.Uri, options: ("reconnect-delay", "1"));
        target.Crash();
        target.LastBlock = 100;
        target.Start();
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "another disk", async () => await graph.Root.ReadAsync(0, new byte[512]));
        target.LastBlock = (ulong)(content.Length / 512) + 5; // grown: that is good
        bool isBack = false;
        for (int i = 0; i < 200 && !isBack; i++)
        {
            isBack = await Record.ExceptionAsync(async () => await graph.Root.ReadAsync(0, new byte[512])) is null;
            SpinWait.SpinUntil(() => isBack, 50);
        }

        await AssertContentAsync(graph.Root, content, "grown");
    }

    [Fact]
    public async Task Without_a_delay_requests_fail_at_once()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        await using Graph graph = await OpenAsync(target.Uri, options: ("reconnect-delay", "0"));
        target.Crash();
        long began = Environment.TickCount64;
        await AssertRefusedAsync(BlockErrorKind.IoError, "is lost", async () => await graph.Root.ReadAsync(0, new byte[512]));
        Assert.InRange(Environment.TickCount64 - began, 0, 10_000);
    }

    [Fact]
    public async Task Answers_before_the_data_of_a_write_has_come_harm_nothing()
    {
        byte[] model = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(model));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        int count = 0;
        target.AnswerEarly = operation =>
            operation == 0x2A && ++count <= 20 ? FakeScsiAnswer.Check((byte)(count % 2 == 0 ? 0xB : 6), 0x3F01) : null;
        await Task.WhenAll(Enumerable.Range(0, 10).Select(async i =>
        {
            int at = i * 100 * 1024;
            TestPattern.Fill(model.AsSpan(at, 100 * 1024), at, i);
            await graph.Root.WriteAsync(at, model.AsMemory(at, 100 * 1024));
        })).WaitAsync(Limit);
        Assert.True(count > 20, $"{count}");
        await graph.Root.FlushAsync();
        TestPattern.AssertEqual(model, target.Durable, 0, "after early answers");
    }
}
