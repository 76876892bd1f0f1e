namespace ImageMount.TestSupport;

/// <summary>What code allocates on its own thread once it is warm.</summary>
public static class Allocations
{
    /// <summary>
    /// The least that one of several rounds allocates, in bytes. What the code under test allocates is in every round;
    /// what is not its own is in a few: the run time compiling anew, a shared pool that grows because tests beside
    /// this one hold its buffers.
    /// </summary>
    /// <param name="rounds">How many rounds at most; the first that allocates nothing is the last.</param>
    /// <param name="round">Many calls of what is measured, all on this thread.</param>
    public static long Least(int rounds, Action round)
    {
        long least = long.MaxValue;
        for (int i = 0; i < rounds && least != 0; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            round();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}
