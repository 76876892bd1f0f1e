using System.Diagnostics;
using ImageMount.Fuse.Transport;

namespace ImageMount.Fuse.Tests.Transport;

/// <summary>Looking before sleeping begins only when requests come fast, and ends when it is in vain.</summary>
public sealed class SpinGaugeTests
{
    private static readonly long s_soon = Stopwatch.Frequency / 100_000;
    private static readonly long s_late = Stopwatch.Frequency / 1000;

    [Fact]
    public void Rare_requests_are_not_looked_for()
    {
        var gauge = new SpinGauge();
        for (int i = 0; i < 10_000; i++)
        {
            gauge.Slept(i % 8 == 7 ? s_late : s_soon);
            Assert.False(gauge.IsWorthIt);
        }
    }

    [Fact]
    public void Fast_requests_are_looked_for()
    {
        SpinGauge gauge = Warm();
        Assert.True(gauge.IsWorthIt);
        for (int i = 0; i < 10_000; i++)
        {
            gauge.Hit();
            Assert.True(gauge.IsWorthIt);
        }
    }

    [Fact]
    public void Misses_end_it_and_the_next_attempt_takes_longer()
    {
        SpinGauge gauge = Warm();
        int before = 0;
        for (int round = 0; round < 5; round++)
        {
            for (int i = 0; gauge.IsWorthIt; i++)
            {
                Assert.True(i < 100, "misses do not end it");
                gauge.Miss();
            }

            int sleeps = 0;
            while (!gauge.IsWorthIt)
            {
                gauge.Slept(s_soon);
                sleeps++;
            }

            Assert.True(sleeps > before, $"round {round}: {sleeps}, {before} before");
            before = sleeps;
        }
    }

    private static SpinGauge Warm()
    {
        var gauge = new SpinGauge();
        for (int i = 0; i < 100 && !gauge.IsWorthIt; i++)
        {
            gauge.Slept(s_soon);
        }

        return gauge;
    }
}
