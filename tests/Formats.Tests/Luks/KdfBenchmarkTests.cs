using ImageMount.Formats.Crypto;
using ImageMount.Formats.Luks;

namespace ImageMount.Formats.Tests.Luks;

/// <summary>From a time to the costs of a key slot, on machines that are only imagined.</summary>
public sealed class KdfBenchmarkTests
{
    [Theory]
    [InlineData(1.0, 1)]
    [InlineData(50.0, 2)]
    [InlineData(3000.0, 4)]
    public void Iterations_take_the_time_that_is_wanted(double iterationsPerMs, int rounds)
    {
        foreach (int time in (int[])[10, 50, 500, 2000])
        {
            double Measure(int iterations) => iterations / iterationsPerMs;
            int found = KdfBenchmark.Iterations(Measure, rounds, time);
            double wanted = Math.Clamp(iterationsPerMs * time, KdfBenchmark.MinIterations, KdfBudget.MaxRounds / 9 / rounds);
            Assert.InRange(found, wanted - 1, wanted + 1);
            int digest = KdfBenchmark.DigestIterations(Measure, rounds, time);
            Assert.InRange(digest, KdfBenchmark.MinIterations, Math.Max(found, KdfBenchmark.MinIterations));
        }
    }

    [Fact]
    public void More_time_is_more_work()
    {
        static double Measure(int iterations) => iterations / 1000.0;
        int little = KdfBenchmark.Iterations(Measure, 1, 10);
        int much = KdfBenchmark.Iterations(Measure, 1, 500);
        Assert.Equal(50, much / little);
        (int passes, int memory) = KdfBenchmark.Costs(1 << 14, 10, null, 4 << 20);
        (int morePasses, int moreMemory) = KdfBenchmark.Costs(1 << 14, 500, null, 4 << 20);
        Assert.True((long)morePasses * moreMemory >= 2L * passes * memory);
    }

    // What is made on the fastest of machines with the longest of times is still opened here: eight slots, each tried
    // with its digest.
    [Theory]
    [InlineData(1, 1)]
    [InlineData(4, 1)]
    [InlineData(1, 2)]
    public void Eight_slots_stay_within_what_is_accepted(int rounds, int digestRounds)
    {
        static double Measure(int iterations) => 0;
        int slot = KdfBenchmark.Iterations(Measure, rounds, 60_000);
        int digest = KdfBenchmark.DigestIterations(Measure, digestRounds, 60_000);
        var budget = new KdfBudget();
        for (int i = 0; i < 8; i++)
        {
            budget.SpendPbkdf2(slot, 32 * rounds, 32);
            budget.SpendPbkdf2(digest, 32 * digestRounds, 32);
        }

        (int passes, int memory) = KdfBenchmark.Costs(1e9, 60_000, null, 1 << 20);
        Assert.True(8L * passes * memory <= KdfBudget.MaxKiBPasses);
    }

    [Theory]
    [InlineData(1.0, null, 4 << 20)]
    [InlineData(1e6, null, 1000)]
    [InlineData(1e6, 32, 1000)]
    [InlineData(1e6, 1 << 20, 1 << 30)]
    public void Argon2_has_never_less_than_four_passes_and_the_memory_that_there_is(
        double perMs, int? wanted, long available)
    {
        (int passes, int memory) = KdfBenchmark.Costs(perMs, 50, wanted, available);
        Assert.True(passes >= 4);
        int most = (int)Math.Clamp(available, 32 << 10, 1 << 20);
        Assert.Equal(wanted ?? Math.Clamp((int)Math.Min(perMs * 50 / 4, 1 << 20), 32 << 10, most), memory);
    }
}
