using System.Diagnostics;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Transport.Uring;

namespace ImageMount.Fuse.Tests.Transport;

/// <summary>What a queue's thread does itself, and what it leaves to helpers.</summary>
public sealed class UringPaceTests
{
    private static readonly long s_ten = Stopwatch.Frequency / 100; // 10 ms

    [Fact]
    public void What_reaches_a_disk_by_its_nature_is_handed_over()
    {
        using var pace = new UringPace();
        Assert.True(pace.MustHandOver(FuseOpcode.FUSE_FSYNC));
        Assert.True(pace.MustHandOver(FuseOpcode.FUSE_DESTROY));
        Assert.False(pace.MustHandOver(FuseOpcode.FUSE_READ));
    }

    [Fact]
    public void Fast_operations_stay()
    {
        var pace = new UringPace();
        for (int i = 0; i < 1000; i++)
        {
            Assert.False(pace.MustHandOver(FuseOpcode.FUSE_READ));
            pace.Took(Stopwatch.Frequency / 100_000, 4096);
        }

        pace.Dispose();
    }

    [Fact]
    public void One_that_slept_long_sends_the_next_to_helpers_and_then_it_is_tried_again()
    {
        var pace = new UringPace();
        for (int i = 0; i < 2; i++) // the first measures from the thread's beginning, and may be too careful
        {
            pace.Took(s_ten * 1000, 4096); // ten seconds, in which this thread hardly ran
        }

        int handed = 0;
        while (pace.MustHandOver(FuseOpcode.FUSE_READ))
        {
            Assert.True(++handed < 10_000);
        }

        Assert.InRange(handed, 1, 1000);
        pace.Dispose();
    }

    [Fact]
    public void Large_transfers_are_not_slow_for_their_size()
    {
        var pace = new UringPace();
        for (int i = 0; i < 200; i++)
        {
            pace.Took(s_ten / 10, 1 << 20); // 1 ms for 1 MiB
            Assert.False(pace.MustHandOver(FuseOpcode.FUSE_READ));
        }

        pace.Dispose();
    }
}
