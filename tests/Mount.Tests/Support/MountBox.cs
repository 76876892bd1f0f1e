using System.Globalization;
using System.Text;

namespace ImageMount.Mount.Tests.Support;

/// <summary>
/// A temporary folder with images and mounts. Leaving it ends every mount below it, whatever state it is in; and a
/// watchdog does the same when the test takes too long: the FUSE connection is aborted, so that every call that waits
/// in the kernel fails at once, and the test with it.
/// </summary>
public sealed class MountBox : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(150);
    private readonly Timer _watchdog;
    private readonly List<string> _pidFiles = [];
    private readonly List<int> _pids = [];
    private int _mountCount;

    public MountBox(string? parent = null)
    {
        Folder = parent is null
            ? Directory.CreateTempSubdirectory("imgmount-test-").FullName
            : Directory.CreateDirectory(Path.Combine(parent, "box")).FullName;
        _watchdog = new Timer(_ => TearDown(), null, Limit, Timeout.InfiniteTimeSpan);
    }

    public string Folder { get; }

    public string this[string name] => Path.Combine(Folder, name);

    /// <summary>Mounts an image on a new folder, with imgmount's defaults and the given options.</summary>
    public MountedImage Mount(string image, params string[] options) =>
        MountAt(image, this[$"mount{_mountCount++}"], options);

    /// <summary>Mounts an image on a folder or file.</summary>
    public MountedImage MountAt(string image, string point, params string[] options)
    {
        ToolResult result = TryMountAt(image, point, out string pidFile, options);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.True(IsMounted(point), $"imgmount succeeded, but nothing is mounted at {point}:\n{result}");
        int pid = int.Parse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture);
        lock (_pidFiles)
        {
            _pids.Add(pid);
        }

        return new MountedImage(point, pid);
    }

    /// <summary>Tries to mount.</summary>
    public ToolResult TryMountAt(string image, string point, out string pidFile, params string[] options)
    {
        if (!File.Exists(point) && !IsMounted(point))
        {
            Directory.CreateDirectory(point);
        }

        pidFile = this[$"{Guid.NewGuid():N}.pid"];
        lock (_pidFiles)
        {
            _pidFiles.Add(pidFile);
        }

        return Tool.Try(Tool.Imgmount, ["mount", image, point, "--pidfile", pidFile, .. options]);
    }

    /// <summary>Tries to mount on a new folder.</summary>
    public ToolResult TryMount(string image, params string[] options) =>
        TryMountAt(image, this[$"mount{_mountCount++}"], out _, options);

    /// <summary>The mounts at or below a path, newest first, from the mount table (which never touches them).</summary>
    public static List<(string Point, string Type, int Minor)> MountsBelow(string path)
    {
        var mounts = new List<(string, string, int)>();
        foreach (string line in File.ReadLines("/proc/self/mountinfo"))
        {
            string[] fields = line.Split(' ');
            string point = Unescape(fields[4]);
            if (point == path || point.StartsWith(path + "/", StringComparison.Ordinal))
            {
                int dash = Array.IndexOf(fields, "-");
                mounts.Add((point, fields[dash + 1], int.Parse(fields[2].Split(':')[1], CultureInfo.InvariantCulture)));
            }
        }

        mounts.Reverse();
        return mounts;
    }

    public static bool IsMounted(string path) => MountsBelow(path).Any(mount => mount.Point == path);

    public void Dispose()
    {
        _watchdog.Dispose();
        TearDown();
        if (Environment.GetEnvironmentVariable("IMAGEMOUNT_KEEP") is null)
        {
            Directory.Delete(Folder, recursive: true);
        }
    }

    private void TearDown()
    {
        // What is mounted from a file of ours (a loop mount) goes first: it was mounted later, so it comes first here.
        foreach ((string point, string type, int minor) in MountsBelow(Folder))
        {
            if (type.StartsWith("fuse", StringComparison.Ordinal))
            {
                TryWrite($"/sys/fs/fuse/connections/{minor}/abort", "1");
            }

            Tool.Try("umount", "-l", point);
        }

        List<int> pids;
        lock (_pidFiles)
        {
            // Pid files too: of mounts that came to life although the command failed or hung.
            pids = [.. _pids];
            pids.AddRange(
                from file in _pidFiles
                where File.Exists(file)
                select int.TryParse(File.ReadAllText(file), out int pid) ? pid : 0);
        }

        foreach (int pid in pids.Where(pid => pid > 0).Distinct())
        {
            Processes.KillIfOurs(pid);
        }
    }

    private static void TryWrite(string path, string text)
    {
        try
        {
            File.WriteAllText(path, text);
        }
        catch (IOException)
        {
            // The connection is gone already.
        }
        catch (UnauthorizedAccessException)
        {
            // sysfs is read-only in some containers; the lazy unmount has to do.
        }
    }

    /// <summary>Blanks and the like are octal in the mount table.</summary>
    private static string Unescape(string text)
    {
        var result = new StringBuilder();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\' && i + 3 < text.Length)
            {
                result.Append((char)Convert.ToInt32(text.Substring(i + 1, 3), 8));
                i += 3;
            }
            else
            {
                result.Append(text[i]);
            }
        }

        return result.ToString();
    }
}
