using ImageMount.Fuse.Transport;
using static ImageMount.Fuse.Transport.WorkerTrial;

namespace ImageMount.Fuse.Tests.Transport;

/// <summary>One more worker is tried when asked for, stays only if it helps, and is not tried all the time.</summary>
public sealed class WorkerTrialTests
{
    [Fact]
    public void Without_need_nothing_changes()
    {
        var trial = new WorkerTrial();
        Assert.All(Enumerable.Range(0, 1000), i => Assert.Equal(Verdict.Keep, trial.Next(i, false, false)));
    }

    [Fact]
    public void A_worker_that_helps_stays()
    {
        var trial = new WorkerTrial();
        Assert.Equal(Verdict.Grow, RunToVerdict(trial, 1000));
        Assert.Null(TryRunToVerdict(trial, 1500, periods: 4));
    }

    [Fact]
    public void A_worker_that_does_not_help_goes()
    {
        var trial = new WorkerTrial();
        Assert.Equal(Verdict.Grow, RunToVerdict(trial, 1000));
        Assert.Equal(Verdict.Shrink, RunToVerdict(trial, 1050));
    }

    [Fact]
    public void One_odd_period_decides_nothing()
    {
        var trial = new WorkerTrial();
        Assert.Equal(Verdict.Grow, RunToVerdict(trial, 1000));
        trial.Next(1000, true, false); // settling
        Assert.Equal(Verdict.Keep, trial.Next(900, true, false));
        Assert.Equal(Verdict.Keep, trial.Next(9000, true, false));
        Assert.Equal(Verdict.Shrink, trial.Next(1000, true, false));
    }

    [Fact]
    public void The_rest_after_a_failure_grows()
    {
        var trial = new WorkerTrial();
        int last = 0;
        for (int round = 0; round < 5; round++)
        {
            int periods = 0;
            while (trial.Next(1000, true, false) != Verdict.Grow)
            {
                periods++;
            }

            Assert.True(periods > last, $"round {round}: {periods} periods, {last} before");
            last = periods;
            Assert.Equal(Verdict.Shrink, RunToVerdict(trial, 1000));
        }
    }

    [Fact]
    public void A_disturbed_trial_is_given_up()
    {
        var trial = new WorkerTrial();
        Assert.Equal(Verdict.Grow, RunToVerdict(trial, 1000));
        trial.Next(1000, true, false);
        Assert.Equal(Verdict.Keep, trial.Next(1000, true, true));
        Assert.Equal(Verdict.Grow, RunToVerdict(trial, 1000)); // and begins anew, with nothing measured before
    }

    private static Verdict RunToVerdict(WorkerTrial trial, long rate)
    {
        Verdict? verdict = TryRunToVerdict(trial, rate, 1000);
        Assert.NotNull(verdict);
        return verdict.Value;
    }

    private static Verdict? TryRunToVerdict(WorkerTrial trial, long rate, int periods)
    {
        for (int i = 0; i < periods; i++)
        {
            Verdict verdict = trial.Next(rate, true, false);
            if (verdict != Verdict.Keep)
            {
                return verdict;
            }
        }

        return null;
    }
}
