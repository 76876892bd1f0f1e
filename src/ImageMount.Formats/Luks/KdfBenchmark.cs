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

    /// <summary>Shorter times say little, ms.</summary>
    private const int LeastToMeasure = 20;

    /// <summary>
    /// Rounds of the hash that one slot may ask for. Eight slots, each with a digest of an eighth of that, have to stay
    /// within what this program itself accepts.
    /// </summary>
    private const long MaxSlotRounds = KdfBudget.MaxRounds / 9;

    private static ReadOnlySpan<byte> Anything => "0123456789abcdef"u8;

    /// <summary>Iterations of PBKDF2 with which a slot takes a time to unlock.</summary>
    public static int Pbkdf2(Hash hash, int keySize, int milliseconds) =>
        Iterations(count => Measure(hash, keySize, count), Rounds(hash, keySize), milliseconds);

    /// <summary>Iterations for the digest of a key: an eighth of the time of a slot.</summary>
    public static int Digest(Hash hash, int size, int milliseconds) =>
        DigestIterations(count => Measure(hash, size, count), Rounds(hash, size), milliseconds);

    /// <summary>Passes, memory and lanes of Argon2 for a time.</summary>
    public static (int Passes, int MemoryKiB, int Lanes) Argon2(bool isHybrid, int milliseconds, int? memoryKiB)
    {
        int lanes = Math.Clamp(Environment.ProcessorCount, 1, MaxLanes);
        var key = new byte[32];
        long start = Stopwatch.GetTimestamp();
        Crypto.Argon2.Derive(isHybrid, Anything, Anything, 1, MinMemoryKiB, lanes, key);
        double perMillisecond = MinMemoryKiB / Math.Max(Stopwatch.GetElapsedTime(start).TotalMilliseconds, 0.001);
        long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 2 >> 10;
        (int passes, int memory) = Costs(perMillisecond, milliseconds, memoryKiB, available);
        return (passes, memory, lanes);
    }

    /// <summary>Finds iterations.</summary>
    /// <param name="measure">How long some iterations take, ms.</param>
    /// <param name="rounds">Rounds of the hash that an iteration has.</param>
    /// <param name="milliseconds">How long it is to take.</param>
    internal static int Iterations(Func<int, double> measure, long rounds, int milliseconds) =>
        Iterations(measure, milliseconds, MaxSlotRounds / rounds);

    /// <summary>The same for a digest.</summary>
    internal static int DigestIterations(Func<int, double> measure, long rounds, int milliseconds) =>
        Iterations(measure, milliseconds / 8.0, MaxSlotRounds / 8 / rounds);

    /// <summary>Finds passes and memory; memory first, since that is what makes guessing hard.</summary>
    /// <param name="perMillisecond">KiB that are gone through in a millisecond.</param>
    /// <param name="milliseconds">How long it is to take.</param>
    /// <param name="memoryKiB">What the user wants; null: by the time.</param>
    /// <param name="availableKiB">Most memory.</param>
    internal static (int Passes, int MemoryKiB) Costs(
        double perMillisecond, int milliseconds, int? memoryKiB, long availableKiB)
    {
        double work = Math.Min(perMillisecond * milliseconds, KdfBudget.MaxKiBPasses / 8.0);
        long most = Math.Clamp(availableKiB, MinMemoryKiB, MaxMemoryKiB);
        int memory = memoryKiB ?? (int)Math.Clamp(work / MinPasses, MinMemoryKiB, most);
        return ((int)Math.Clamp(work / memory, MinPasses, int.MaxValue), memory);
    }

    private static int Iterations(Func<int, double> measure, double milliseconds, long most)
    {
        for (int iterations = MinIterations; ; iterations *= 2)
        {
            double took = measure(iterations);
            if (took > LeastToMeasure || iterations >= KdfBudget.MaxRounds / 4)
            {
                return (int)Math.Clamp(iterations * (milliseconds / Math.Max(took, 0.001)), MinIterations, most);
            }
        }
    }

    private static long Rounds(Hash hash, int size) => (size + hash.Size - 1) / hash.Size;

    private static double Measure(Hash hash, int keySize, int iterations)
    {
        var key = new byte[keySize];
        long start = Stopwatch.GetTimestamp();
        hash.Pbkdf2(Anything, Anything, iterations, key);
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }
}
