using System.Globalization;

namespace ImageMount.Fuzz.Tests;

/// <summary>
/// What the process keeps: not only the collected heap, whose allocations the runner counts, but buffers outside it
/// and the memory of native decoders, which a case that fails half-way could leave behind.
/// </summary>
internal static class ProcessMemory
{
    /// <summary>
    /// Most bytes that all cases of a format may leave behind: caches and pools that are filled once, and what
    /// another test class holds at the moment. A leak of half a megabyte a case is more.
    /// </summary>
    public const long MaxGrowth = 256L << 20;

    /// <summary>
    /// Anonymous memory of the process that is in use, bytes; garbage is collected and given back first.
    /// </summary>
    public static long Now()
    {
        if (!OperatingSystem.IsLinux())
        {
            return 0;
        }

        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        GC.WaitForPendingFinalizers();
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        string line = File.ReadLines("/proc/self/status")
            .First(each => each.StartsWith("RssAnon:", StringComparison.Ordinal));
        string number = line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2];
        return long.Parse(number, CultureInfo.InvariantCulture) << 10;
    }
}
