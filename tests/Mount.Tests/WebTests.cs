using ImageMount.Mount.Tests.Support;
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
