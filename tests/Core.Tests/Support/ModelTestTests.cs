using Xunit.Sdk;

namespace ImageMount.Core.Tests.Support;

public sealed class ModelTestTests
{
    [Fact]
    public async Task Sound_driver_passes() => await Make(Flaw.None).RunAsync();

    [Fact]
    public async Task Mistake_is_found_and_reduced_to_the_step_that_makes_it()
    {
        FailException e = await Assert.ThrowsAsync<FailException>(() => Make(Flaw.LosesByteAtUnitEnd).RunAsync());
        Assert.Contains("first difference at 0x1fff", e.Message, StringComparison.Ordinal);
        Assert.Contains("seed 5; 1 steps that show it:", e.Message, StringComparison.Ordinal);
    }

    private static ModelTest Make(Flaw flaw)
    {
        byte[] content = TestPattern.Make(64 << 10, 0, 2);
        return new ModelTest
        {
            Initial = content,
            Seed = 5,
            Unit = 4096,
            Largest = 16 << 10,
            Steps = 120,
            CreateAsync = () =>
            {
                var file = new BlockNode("mem", "memory", new MemoryDevice((byte[])content.Clone()));
                return new(flags => FlawedDriver.OpenAsync(file, flags, flaw));
            },
        };
    }
}
