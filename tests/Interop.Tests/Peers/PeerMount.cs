using System.Globalization;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests.Peers;

/// <summary>
/// What a FUSE tool of libyal (vhdimount, vmdkmount, qcowmount) reads of an image. The mount goes away in any case;
/// one that hangs is aborted by a watchdog, so that whoever reads from it fails instead of waiting for ever.
/// </summary>
public static class PeerMount
{
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(60);

    /// <summary>Skips the test where the tool, or what it needs, is missing.</summary>
    public static void Require(string tool)
    {
        TestSupport.Require.Tool(tool);
        TestSupport.Require.Fuse();
        TestSupport.Require.Root();
    }

    /// <summary>All bytes of the disk.</summary>
    /// <param name="tool">The mounting program.</param>
    /// <param name="scratch">Gets the mount point.</param>
    /// <param name="image">The image.</param>
    public static byte[] Read(string tool, Scratch scratch, string image)
    {
        string point = Directory.CreateDirectory(scratch[$"mount-{Guid.NewGuid():N}"]).FullName;
        ToolResult mounted = Qemu.Run(tool, image, point);
        using var watchdog = new Timer(_ => Abort(point), null, s_watchdog, Timeout.InfiniteTimeSpan);
        try
        {
            Assert.True(mounted.ExitCode == 0, $"{tool} {image}: {mounted.All}");

            // One file for each image of a chain; the last one is the disk.
            return File.ReadAllBytes(Directory.GetFiles(point).Order(StringComparer.Ordinal).Last());
        }
        finally
        {
            if (Qemu.Run("umount", point).ExitCode != 0)
            {
                Abort(point);
                Qemu.Run("umount", "-l", point);
            }
        }
    }

    private static void Abort(string point)
    {
        foreach (string[] fields in File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(' ')))
        {
            if (fields[4] == point)
            {
                int connection = int.Parse(fields[2].Split(':')[1], CultureInfo.InvariantCulture);
                try
                {
                    File.WriteAllText($"/sys/fs/fuse/connections/{connection}/abort", "1");
                }
                catch (IOException)
                {
                    // It is gone already.
                }
                catch (UnauthorizedAccessException)
                {
                    // sysfs is read-only in some containers; the lazy unmount has to do.
                }
            }
        }
    }
}
