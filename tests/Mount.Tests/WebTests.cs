using ImageMount.Mount.Tests.Support;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Mount.Tests;

/// <summary>Mounts of images on a web server.</summary>
public class WebTests
{
    [SkippableFact]
    public void An_image_with_a_parent_on_another_protocol_is_mounted_and_its_password_is_nowhere()
    {
        Needs.Mounting("qemu-img", "nginx");
        using var box = new MountBox();
        byte[] content = DiskContent.Make(11, 4 << 20);
        File.WriteAllBytes(box["base.raw"], content);
        using var server = new WebServer(box.Folder);
        Tool.Run(
            "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", box["base.raw"], "-F", "raw", box["child.qcow2"],
            $"{content.Length}");
        string log = box["log"];
        MountedImage mount = box.Mount(
            server.Url("auth/child.qcow2?token=geheim", "alice:secret@"), "--allow-external", "--log-file", log, "--debug");
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "over http");
        string shown = string.Concat(
            File.ReadAllText("/proc/mounts"), Tool.Run(Tool.Imgmount, "list", "--json"), File.ReadAllText(log),
            File.ReadAllText($"/proc/{mount.ProcessId}/cmdline"), File.ReadAllText($"/proc/{mount.ProcessId}/environ"),
            string.Concat(Directory.EnumerateFiles(mount[".imgmount"]).Select(File.ReadAllText)),
            Tool.Run(Tool.Imgmount, "info", "--json", server.Url("auth/child.qcow2?token=geheim", "alice:secret@"), "--allow-external"));
        Assert.Contains("auth/child.qcow2", shown, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", shown, StringComparison.Ordinal);
        Assert.DoesNotContain("geheim", shown, StringComparison.Ordinal);
        mount.Unmount();
    }

    [SkippableFact]
    public void An_image_on_an_FTP_server_has_its_parent_on_a_web_server()
    {
        Needs.Mounting("qemu-img", "nginx", "proftpd");
        using var box = new MountBox();
        byte[] content = DiskContent.Make(13, 4 << 20);
        File.WriteAllBytes(box["base.raw"], content);
        using var web = new WebServer(box.Folder);
        Tool.Run(
            "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", web.Url("base.raw"), "-F", "raw", box["child.qcow2"],
            $"{content.Length}");
        byte[] part = DiskContent.Make(14, 300_000);
        MountedImage local = box.Mount(box["child.qcow2"], "--allow-external");
        using (var disk = File.OpenHandle(local.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(disk, part, 1_000_001);
            part.CopyTo(content, 1_000_001);
        }

        local.Unmount();
        using var keys = new TempDir();
        using var ftp = new FtpServer(box.Folder, new TestCertificates(keys));
        MountedImage mount = box.Mount(ftp.Url("child.qcow2"), "--allow-external");
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "over ftp and http");
        mount.Unmount();
    }

    [SkippableFact]
    public void Unmounting_does_not_wait_for_a_server_that_does_not_answer()
    {
        Needs.Mounting("nginx");
        using var box = new MountBox();
        File.WriteAllBytes(box["disk.raw"], DiskContent.Make(12, 2 << 20));
        using var server = new WebServer(box.Folder);
        MountedImage mount = box.Mount(server.Url("disk.raw"));
        server.Process.Stop();
        try
        {
            Task<byte[]> reading = Task.Run(() => File.ReadAllBytes(mount.Disk));
            var clock = System.Diagnostics.Stopwatch.StartNew();
            Tool.Try(Tool.Imgmount, "umount", "--force", mount.Point);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), $"after {clock.Elapsed}");
            Exception? e = Record.Exception(() => reading.GetAwaiter().GetResult());
            Assert.True(e is null or IOException, $"{e}");
        }
        finally
        {
            server.Process.Continue();
        }
    }
}
