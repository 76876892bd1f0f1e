using System.Diagnostics;
using System.Globalization;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>Mounts of a disk behind an NBD server, and how they end when the server does not answer.</summary>
public sealed class NbdTests
{
    private const int Length = 8 << 20;
    private const int SigStop = 19;
    private const int SigCont = 18;

    [SkippableFact]
    public void A_disk_behind_a_server_is_read_and_written_through_a_mount()
    {
        Needs.Mounting("qemu-nbd");
        using var box = new MountBox();
        using var server = new Server(box);
        byte[] expected = DiskContent.Make(seed: 5, Length);
        MountedImage mount = box.Mount(server.Uri);
        File.WriteAllBytes(mount.Disk, expected);
        DiskContent.AssertEqual(expected, File.ReadAllBytes(mount.Disk), "through the mount");
        mount.Unmount();
        DiskContent.AssertEqual(expected, File.ReadAllBytes(server.Image), "the server's file");
    }

    [SkippableFact]
    public void Unmounting_while_the_server_is_stopped_ends_soon()
    {
        Needs.Mounting("qemu-nbd");
        using var box = new MountBox();
        using var server = new Server(box);
        MountedImage mount = box.Mount(server.Uri, "--read-only");
        File.ReadAllBytes(mount.Disk);
        server.Signal(SigStop);
        var watch = Stopwatch.StartNew();
        mount.Unmount();
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(15), $"{watch.Elapsed}");
        server.Signal(SigCont);
    }

    [SkippableFact]
    public void A_signal_ends_a_mount_with_unwritten_data_although_the_server_is_stopped()
    {
        Needs.Mounting("qemu-nbd");
        using var box = new MountBox();
        using var server = new Server(box);
        MountedImage mount = box.Mount(server.Uri);
        using SafeFileHandle held = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite);
        server.Signal(SigStop);
        RandomAccess.Write(held, DiskContent.Make(seed: 6, 1 << 20), 0); // into the page cache
        var watch = Stopwatch.StartNew();
        Processes.Signal(mount.ProcessId, Processes.SigTerm);
        Processes.WaitUntilEnded(mount.ProcessId);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(30), $"{watch.Elapsed}");
        server.Signal(SigCont);
        Assert.False(MountBox.IsMounted(mount.Point));
    }

    [SkippableFact]
    public void The_doctor_lists_what_there_is()
    {
        ToolResult text = Tool.Try(Tool.Imgmount, "doctor");
        Assert.Contains("libgnutls.so.30", text.Output, StringComparison.Ordinal);
        Assert.All(text.Output.Split('\n'), line => Assert.True(line.Length <= 80, line));
        ToolResult json = Tool.Try(Tool.Imgmount, "doctor", "--json");
        using var document = System.Text.Json.JsonDocument.Parse(json.Output);
        Assert.Contains(
            document.RootElement.EnumerateArray(), item => item.GetProperty("what").GetString() == "/dev/fuse");
    }

    /// <summary>qemu-nbd as a daemon on a unix socket.</summary>
    private sealed class Server : IDisposable
    {
        private readonly int _pid;

        public Server(MountBox box)
        {
            Image = box["served.raw"];
            using (FileStream file = File.Create(Image))
            {
                file.SetLength(Length);
            }

            string socket = box["n.sock"];
            string pidFile = box["n.pid"];
            Tool.Run("qemu-nbd", "--fork", "-t", "-e", "8", "-f", "raw", "-k", socket, $"--pid-file={pidFile}", Image);
            _pid = int.Parse(File.ReadAllText(pidFile).Trim(), CultureInfo.InvariantCulture);
            Uri = $"nbd+unix:///?socket={socket}";
        }

        public string Image { get; }

        public string Uri { get; }

        public void Signal(int signal) => Processes.Signal(_pid, signal);

        public void Dispose()
        {
            Processes.Signal(_pid, SigCont);
            Processes.Signal(_pid, Processes.SigKill);
        }
    }
}
