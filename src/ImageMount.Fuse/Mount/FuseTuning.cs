using System.Globalization;

namespace ImageMount.Fuse.Mount;

/// <summary>What the kernel lets root tune about a mount, in /sys, and what it tells about its limits.</summary>
internal static class FuseTuning
{
    /// <summary>fs.fuse.max_pages_limit (Linux 6.13), or the fixed limit of older kernels. Pages a request.</summary>
    public static int MaxPages()
    {
        try
        {
            string text = File.ReadAllText("/proc/sys/fs/fuse/max_pages_limit");
            return int.TryParse(text.AsSpan().Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out int pages)
                && pages > 0 ? pages : Abi.FuseConstants.MaxMaxPages;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Abi.FuseConstants.MaxMaxPages;
        }
    }

    /// <summary>Raises the mount's read-ahead, which INIT can only lower. True when it took.</summary>
    /// <param name="device">MAJOR:MINOR of the mount.</param>
    /// <param name="bytes">Wanted read-ahead.</param>
    public static bool TrySetReadAhead(string device, int bytes) =>
        TryWrite(device, "read_ahead_kb", (bytes / 1024).ToString(CultureInfo.InvariantCulture));

    /// <summary>The connection's directory in /sys/fs/fuse/connections; its <c>abort</c> cuts it.</summary>
    public static string ConnectionDirectory(int minor) =>
        "/sys/fs/fuse/connections/" + minor.ToString(CultureInfo.InvariantCulture);

    // The kernel names a FUSE mount's backing device MAJ:MIN-fuse.
    private static bool TryWrite(string device, string attribute, string value)
    {
        foreach (string suffix in (ReadOnlySpan<string>)["-fuse", ""])
        {
            string file = $"/sys/class/bdi/{device}{suffix}/{attribute}";
            if (!File.Exists(file))
            {
                continue;
            }
            try
            {
                File.WriteAllText(file, value);
                return true;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return false;
            }
        }
        return false;
    }
}
