using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// File systems tell times in steps. What is written twice within one step has the same times both times, so a change
/// right after the scan could not be told from what was scanned. Whoever relies on telling that waits until the step of
/// the newest file is over before he lets anybody rely on the plan.
/// </summary>
internal static class TimeSteps
{
    private const long Second = 1_000_000_000;

    /// <summary>Longest step of kernels' clocks (1/100 s), twice.</summary>
    private const long Fine = 20_000_000;

    /// <summary>Longest step of file systems that keep whole seconds: FAT's.</summary>
    private const long Coarse = 2 * Second;

    /// <summary>Waits, most often not at all, and never longer than the longest step.</summary>
    public static Task WaitAsync(EntryTable table, TimeProvider clock, CancellationToken cancellationToken)
    {
        long now = (clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100;
        long wait = 0;
        for (int entry = 0; entry < table.Count; entry++)
        {
            if ((table[entry].Attributes & FatAttributes.Directory) != 0)
            {
                continue;
            }

            long newest = table[entry].HostChangedNs;
            long step = newest % Second == 0 ? Coarse : Fine;
            wait = Math.Max(wait, Math.Min(newest + step - now, step));
        }

        return wait <= 0 ? Task.CompletedTask : Task.Delay(TimeSpan.FromTicks(wait / 100 + 1), clock, cancellationToken);
    }
}
