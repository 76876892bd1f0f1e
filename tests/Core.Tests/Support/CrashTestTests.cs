using ImageMount.TestSupport.Crash;
using Xunit.Sdk;

namespace ImageMount.Core.Tests.Support;

/// <summary>The crash test passes where nothing is wrong and finds what is.</summary>
public sealed class CrashTestTests
{
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(3, true)]
    public async Task Raw_image_survives_every_cut(int seed, bool asynchronous)
    {
        byte[] content = TestPattern.Make(96 << 10, 0, seed);
        int states = await new CrashTest
        {
            Image = content,
            InitialDisk = content,
            Seed = seed,
            CompletesAsynchronously = asynchronous,
            OpenAsync = (file, flags) => TestGraph.Opener.OpenOverAsync("raw", file, flags),
        }.RunAsync(guest => guest.RunMixedAsync(40, 16 << 10));
        Assert.True(states > 100, $"only {states} states");
    }

    [Fact]
    public async Task Write_through_is_durable_at_once()
    {
        byte[] content = TestPattern.Make(32 << 10, 0, 1);
        OpenFlags flags = TestGraph.Writable with { WriteThrough = true };
        await new CrashTest
        {
            Image = content,
            InitialDisk = content,
            Seed = 7,
            Flags = flags,
            OpenAsync = (file, how) => TestGraph.Opener.OpenOverAsync("raw", file, how),
        }.RunAsync(async guest =>
        {
            for (int i = 0; i < 10; i++)
            {
                await guest.WriteAsync(i * 1024, 2048, WriteFlags.Fua);
            }
        });
    }

    [Theory]
    [InlineData(Flaw.IgnoresFlush)]
    [InlineData(Flaw.HoldsBackWhatWasFlushed)]
    public async Task Driver_that_does_not_keep_its_promise_is_found(Flaw flaw)
    {
        byte[] content = TestPattern.Make(32 << 10, 0, 1);
        FailException e = await Assert.ThrowsAsync<FailException>(() => new CrashTest
        {
            Image = content,
            InitialDisk = content,
            Seed = 3,
            OpenAsync = (file, flags) => FlawedDriver.OpenAsync(file, flags, flaw),
        }.RunAsync(async guest =>
        {
            await guest.WriteAsync(4096, 4096);
            await guest.FlushAsync();
            await guest.WriteAsync(8192, 512);
        }));
        Assert.Contains("seed 3", e.Message, StringComparison.Ordinal);
        Assert.Contains("last completed flush: Flush", e.Message, StringComparison.Ordinal);
        Assert.Contains("holds the initial content", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Wrong_content_is_found_without_any_loss()
    {
        byte[] content = TestPattern.Make(32 << 10, 0, 1);
        FailException e = await Assert.ThrowsAsync<FailException>(() => new CrashTest
        {
            Image = content,
            InitialDisk = content,
            Seed = 3,
            OpenAsync = (file, flags) => FlawedDriver.OpenAsync(file, flags, Flaw.LosesByteAtUnitEnd),
        }.RunAsync(async guest => await guest.WriteAsync(4096, 8192)));
        Assert.Contains("content of no write", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Repair_that_a_second_crash_ruins_is_found()
    {
        byte[] content = TestPattern.Make(32 << 10, 0, 1);
        var test = new CrashTest
        {
            Image = content,
            InitialDisk = content,
            Seed = 3,
            SecondCrashes = 20,
            OpenAsync = OpenAndRepairAsync,
        };
        FailException e = await Assert.ThrowsAsync<FailException>(
            () => test.RunAsync(async guest => await guest.WriteAsync(4096, 8192)));
        Assert.Contains("Second crash", e.Message, StringComparison.Ordinal);

        // Takes a sector away and puts it back, without a flush between: sound unless the power goes there.
        async ValueTask<Core.Graph.Graph> OpenAndRepairAsync(BlockNode file, OpenFlags flags)
        {
            var found = new byte[content.Length];
            await file.ReadAsync(0, found);
            if (flags.Writable && !found.AsSpan().SequenceEqual(content))
            {
                byte[] sector = found[1024..1536];
                await file.WriteAsync(1024, new byte[512]);
                await file.WriteAsync(1024, sector);
                await file.FlushAsync();
            }

            return await TestGraph.Opener.OpenOverAsync("raw", file, flags);
        }
    }
}
