using System.Globalization;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Cli.Background;

/// <summary>
/// Lets go of the standard streams, so that whoever reads them sees their end: the process that waits for "ready", and
/// <c>imgmount … | cat</c>. The runtime keeps duplicates of the three of its own; those must go too.
/// </summary>
internal static class StandardStreams
{
    private const int Count = 3;

    /// <summary>Puts /dev/null in the place of the standard streams and of every duplicate of them.</summary>
    public static void LetGo()
    {
        using SafeFileHandle? nothing = SysOpen.TryOpen("/dev/null", SysOpen.O_RDWR, out _);
        if (nothing is null)
        {
            return;
        }

        var streams = new HashSet<(uint, uint, ulong)>();
        for (int descriptor = 0; descriptor < Count; descriptor++)
        {
            if (Identity(descriptor) is { } identity)
            {
                streams.Add(identity);
            }
        }

        foreach (string entry in Directory.EnumerateFileSystemEntries("/proc/self/fd").ToArray())
        {
            if (int.TryParse(Path.GetFileName(entry), CultureInfo.InvariantCulture, out int descriptor)
                && (descriptor < Count || (Identity(descriptor) is { } identity && streams.Contains(identity))))
            {
                SysDup2.Dup2(nothing, descriptor);
            }
        }
    }

    private static (uint Major, uint Minor, ulong Inode)? Identity(int descriptor) =>
        Stat.TryGet(string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{descriptor}"), out StatInfo info) == 0
            ? (info.DeviceMajor, info.DeviceMinor, info.Inode)
            : null;
}
