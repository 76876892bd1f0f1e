using System.Diagnostics;
using System.Globalization;
using ImageMount.Mount.Tests.Support;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Mount.Tests;

/// <summary>Mounts of disks behind an iSCSI target.</summary>
public sealed class IscsiTests
{
    [SkippableFact]
    public void A_qcow2_on_a_target_with_its_parent_on_an_nbd_server_is_mounted_and_its_password_is_nowhere()
    {
        Needs.Mounting("qemu-img", "qemu-nbd");
        using var box = new MountBox();
        byte[] content = DiskContent.Make(21, 4 << 20);
        File.WriteAllBytes(box["base.raw"], content);
        string socket = box["n.sock"];
        string pidFile = box["n.pid"];
        Tool.Run("qemu-nbd", "--fork", "-t", "-r", "-e", "8", "-f", "raw", "-k", socket, $"--pid-file={pidFile}", box["base.raw"]);
        try
        {
            string image = box["child.qcow2"];
            Tool.Run(
                "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", $"nbd+unix:///?socket={socket}", "-F", "raw", image,
                $"{content.Length}");
            using (FileStream stream = File.OpenWrite(image))
            {
                stream.SetLength(8 << 20); // a unit does not grow
            }

            using IscsiServer server = new IscsiServer().Add(image).Protect("alice", "geheim12345678");
            string uri = server.Uri(user: "alice%geheim12345678@");
            string log = box["log"];
            MountedImage mount = box.Mount(uri, "--allow-external", "--log-file", log, "--debug");
            DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "over iscsi and nbd");
            byte[] own = DiskContent.Make(22, 1 << 20);
            using (FileStream disk = File.OpenWrite(mount.Disk))
            {
                disk.Seek(1 << 20, SeekOrigin.Begin);
                disk.Write(own);
                disk.Flush(flushToDisk: true);
            }

            own.CopyTo(content, 1 << 20);
            DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "after writing");
            string shown = string.Concat(
                File.ReadAllText("/proc/mounts"), Tool.Run(Tool.Imgmount, "list", "--json"), File.ReadAllText(log),
                File.ReadAllText($"/proc/{mount.ProcessId}/cmdline"), File.ReadAllText($"/proc/{mount.ProcessId}/environ"),
                string.Concat(Directory.EnumerateFiles(mount[".imgmount"]).Select(File.ReadAllText)));
            Assert.Contains(IscsiServer.Target, shown, StringComparison.Ordinal);
            Assert.DoesNotContain("geheim", shown, StringComparison.Ordinal);
            mount.Unmount();

            // The file of the unit, read by qemu.
            File.WriteAllBytes(box["expected.raw"], content);
            Tool.Run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, box["expected.raw"]);
        }
        finally
        {
            Processes.Signal(
                int.Parse(File.ReadAllText(pidFile).Trim(), CultureInfo.InvariantCulture), Processes.SigKill);
        }
    }

    [SkippableFact]
    public void Names_and_passwords_come_from_qemus_configuration_or_the_environment()
    {
        Needs.Mounting("qemu-img");
        using var box = new MountBox();
        File.WriteAllBytes(box["disk.raw"], DiskContent.Make(23, 1 << 20));
        using IscsiServer server = new IscsiServer().Add(box["disk.raw"]).Protect("alice", "geheim12345678");
        ToolResult refused = Tool.Try(Tool.Imgmount, "info", server.Uri());
        Assert.NotEqual(0, refused.ExitCode);
        File.WriteAllText(box["qemu.conf"], "[iscsi]\n  user = \"alice\"\n  password = \"geheim12345678\"\n");
        MountedImage mount = box.Mount(server.Uri(), "--read-only", "--object", $"iscsi-config,file={box["qemu.conf"]}");
        DiskContent.AssertEqual(File.ReadAllBytes(box["disk.raw"]), File.ReadAllBytes(mount.Disk), "by the configuration");
        mount.Unmount();
        string info = Tool.Run(
            "env", "LIBISCSI_CHAP_USERNAME=alice", "LIBISCSI_CHAP_PASSWORD=geheim12345678", Tool.Imgmount, "info", server.Uri());
        Assert.Contains("1 MiB", info, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void The_doctor_knows_the_library() => Assert.Contains(
        "libiscsi.so.7", Tool.Try(Tool.Imgmount, "doctor").Output, StringComparison.Ordinal);

    [SkippableFact]
    public void Unmounting_while_the_target_is_stopped_ends_soon()
    {
        Needs.Mounting("qemu-img");
        using var box = new MountBox();
        File.WriteAllBytes(box["disk.raw"], DiskContent.Make(24, 1 << 20));
        using IscsiServer server = new IscsiServer().Add(box["disk.raw"]);
        MountedImage mount = box.Mount(server.Uri(), "--read-only");
        File.ReadAllBytes(mount.Disk);
        server.Stop();
        var watch = Stopwatch.StartNew();
        mount.Unmount();
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{watch.Elapsed}");
    }
}
