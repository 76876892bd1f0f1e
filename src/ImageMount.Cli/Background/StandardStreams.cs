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

        var streams = new StatInfo[Count];
        for (int descriptor = 0; descriptor < Count; descriptor++)
        {
            Stat.TryGet(PathOf(descriptor), out streams[descriptor]);
        }

        foreach (string entry in Directory.GetFileSystemEntries("/proc/self/fd"))
        {
            if (int.TryParse(Path.GetFileName(entry), CultureInfo.InvariantCulture, out int descriptor)
                && (descriptor < Count || IsOneOf(streams, descriptor)))
            {
                SysDup2.Dup2(nothing, descriptor);
            }
        }
    }

    private static bool IsOneOf(StatInfo[] streams, int descriptor)
    {
        if (Stat.TryGet(PathOf(descriptor), out StatInfo info) != 0)
        {
            return false;
        }

        foreach (StatInfo stream in streams)
        {
            if (stream.Inode == info.Inode && stream.DeviceMinor == info.DeviceMinor
                && stream.DeviceMajor == info.DeviceMajor)
            {
                return true;
            }
        }

        return false;
    }

    private static string PathOf(int descriptor) =>
        string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{descriptor}");
}
