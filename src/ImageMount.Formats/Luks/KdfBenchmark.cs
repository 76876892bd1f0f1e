using System.Diagnostics;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>Finds out how much work a key slot may ask for so that unlocking takes a given time on this machine.</summary>
internal static class KdfBenchmark
{
    /// <summary>Fewest iterations of PBKDF2, whatever the time.</summary>
    public const int MinIterations = 1000;

    private const int MinPasses = 4;
    private const int MinMemoryKiB = 32 << 10;
    private const int MaxMemoryKiB = 1 << 20;
    private const int MaxLanes = 4;

    /// <summary>Iterations of PBKDF2 for a time.</summary>
    public static int Pbkdf2(Hash hash, int keySize, int milliseconds)
    {
        Span<byte> key = stackalloc byte[keySize];
        ReadOnlySpan<byte> anything = "0123456789abcdef"u8;
        long rounds = (keySize + hash.Size - 1) / hash.Size;
        for (int iterations = MinIterations; ; iterations *= 2)
        {
            long start = Stopwatch.GetTimestamp();
            hash.Pbkdf2(anything, anything, iterations, key);
            double took = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            if (took > 20 || iterations >= KdfBudget.MaxRounds / 4)
            {
                // All eight slots together have to stay within what this program itself accepts.
                double wanted = iterations * (milliseconds / Math.Max(took, 0.001));
                return (int)Math.Clamp(wanted, MinIterations, KdfBudget.MaxRounds / 8 / rounds);
            }
        }
    }

    /// <summary>Passes, memory and lanes of Argon2 for a time; memory first, since that is what makes it hard.</summary>
    public static (int Passes, int MemoryKiB, int Lanes) Argon2(bool isHybrid, int milliseconds, int? memoryKiB)
    {
        int lanes = Math.Clamp(Environment.ProcessorCount, 1, MaxLanes);
        Span<byte> key = stackalloc byte[32];
        ReadOnlySpan<byte> anything = "0123456789abcdef"u8;
        long start = Stopwatch.GetTimestamp();
        Crypto.Argon2.Derive(isHybrid, anything, anything, 1, MinMemoryKiB, lanes, key);
        double perMillisecond = MinMemoryKiB / Math.Max(Stopwatch.GetElapsedTime(start).TotalMilliseconds, 0.001);
        double work = Math.Min(perMillisecond * milliseconds, KdfBudget.MaxKiBPasses / 8.0);
        long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 2 >> 10;
        int memory = memoryKiB ?? (int)Math.Clamp(work / MinPasses, MinMemoryKiB, Math.Min(MaxMemoryKiB, available));
        return ((int)Math.Clamp(work / memory, MinPasses, int.MaxValue), memory, lanes);
    }
}
