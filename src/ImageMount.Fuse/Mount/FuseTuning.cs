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

    /// <summary>Lets the mount have more dirty pages (sysfs-class-bdi: max_ratio, strict_limit). True when it took.
    /// </summary>
    /// <param name="device">MAJOR:MINOR of the mount.</param>
    /// <param name="percent">Share of the system's limit.</param>
    public static bool TrySetDirtyLimit(string device, int percent) =>
        TryWrite(device, "max_ratio", percent.ToString(CultureInfo.InvariantCulture))
        && TryWrite(device, "strict_limit", "0"); // strict_limit: Linux 6.2

    /// <summary>The connection's directory in /sys/fs/fuse/connections; its <c>abort</c> cuts it.</summary>
    public static string ConnectionDirectory(int minor) =>
        "/sys/fs/fuse/connections/" + minor.ToString(CultureInfo.InvariantCulture);

    private static bool TryWrite(string device, string attribute, string value)
    {
        try
        {
            using var file = new FileStream($"/sys/class/bdi/{device}/{attribute}", FileMode.Open, FileAccess.Write);
            file.Write(System.Text.Encoding.ASCII.GetBytes(value));
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
