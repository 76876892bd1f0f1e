using System.Globalization;
using ImageMount.Core.Block;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>
/// Runs a test for each variant of a matrix and reports all that failed, with what replays them. One that does not end
/// is a failure too, and the last one: nobody knows what it still holds.
/// </summary>
public static class MatrixRun
{
    // A watchdog for hangs; no variant takes a tenth of this on a busy machine.
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(120);

    public static async Task AllAsync(int seed, Func<Qcow2Variant, int, string, Task> test, ITestOutputHelper output)
    {
        // IMAGEMOUNT_SEED makes other images of another selection; without it every run is the same.
        seed += 100_000 * int.Parse(
            Environment.GetEnvironmentVariable("IMAGEMOUNT_SEED") ?? "0", CultureInfo.InvariantCulture);
        var failures = new List<string>();
        int number = seed;
        foreach (Qcow2Variant variant in Qcow2Variant.Selection(seed))
        {
            int own = ++number;
            string name = $"{variant} seed={own}";
            Task run = Task.Run(() => test(variant, own, name));
            if (await Task.WhenAny(run, Task.Delay(s_watchdog)) != run)
            {
                failures.Add($"{name}: no end within {s_watchdog}");
                break;
            }

            try
            {
                await run;
            }
            catch (Exception e)
            {
                failures.Add($"{name}: {(e is BlockException b ? b.Describe() : e.Message)}");
                output.WriteLine($"{name}: {e}");
            }
        }

        output.WriteLine($"{number - seed} variants");
        Assert.True(failures.Count == 0, $"{failures.Count} failed:\n{string.Join("\n", failures)}");
    }
}
