using System.Diagnostics;
using System.Globalization;
using ImageMount.Mount.Tests.Support;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Mount.Tests;

/// <summary>Mounts of images in a GlusterFS volume, and how the program ends after them.</summary>
public sealed class GlusterTests
{
    private const int Length = 4 << 20;

    [SkippableFact]
    public void An_image_with_a_parent_on_another_protocol_is_mounted_and_the_program_ends_without_a_word()
    {
        Needs.Mounting("qemu-img", "qemu-nbd", "glusterd");
        using var box = new MountBox();
        using var server = new GlusterServer();
        byte[] content = DiskContent.Make(seed: 21, Length);
        File.WriteAllBytes(box["base.raw"], content);
        string socket = box["nbd.sock"];
        using Process nbd = Tool.Start("qemu-nbd", "-t", "-e", "8", "-r", "-f", "raw", "-k", socket, box["base.raw"]);
        try
        {
            Assert.True(SpinWait.SpinUntil(() => File.Exists(socket) || nbd.HasExited, TimeSpan.FromSeconds(60)));
            Tool.Run(
                "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", $"nbd+unix:///?socket={socket}", "-F", "raw",
                server.BrickFile("child.qcow2"), $"{Length}");
            string point = Directory.CreateDirectory(box["point"]).FullName;
            string work = Directory.CreateDirectory(box["work"]).FullName;
            string pidFile = box["pid"];

            // In the foreground, where everything that anybody says would be seen.
            using Process program = Tool.Start(
                "sh", "-c", $"cd '{work}'; '{Tool.Imgmount}' mount '{server.Uri("child.qcow2")}' '{point}' --allow-external "
                + $"--foreground --pidfile '{pidFile}' >'{box["said"]}' 2>&1; echo $? >'{box["code"]}'");
            string disk = Path.Combine(point, "disk.raw");
            Assert.True(SpinWait.SpinUntil(
                () => (File.Exists(pidFile) && File.Exists(disk)) || program.HasExited, TimeSpan.FromSeconds(60)));
            Assert.False(program.HasExited, File.ReadAllText(box["said"]));
            DiskContent.AssertEqual(content, File.ReadAllBytes(disk), "through the mount");
            byte[] change = DiskContent.Make(seed: 22, 1 << 20);
            using (FileStream stream = File.OpenWrite(disk))
            {
                stream.Position = 100_000;
                stream.Write(change);
                stream.Flush(flushToDisk: true);
            }

            change.CopyTo(content, 100_000);
            DiskContent.AssertEqual(content, File.ReadAllBytes(disk), "changed");
            int pid = int.Parse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture);
            var clock = Stopwatch.StartNew();
            Processes.Signal(pid, Processes.SigTerm);
            Assert.True(program.WaitForExit(TimeSpan.FromSeconds(60)), "it does not end");

            // The library would take ten seconds.
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(8), $"the program took {clock.Elapsed} to end");
            Assert.Equal("0", File.ReadAllText(box["code"]).Trim());
            Assert.Empty(Directory.EnumerateFileSystemEntries(work));
            Assert.DoesNotContain("gluster", File.ReadAllText(box["said"]).Replace(
                server.Uri("child.qcow2"), "", StringComparison.Ordinal), StringComparison.OrdinalIgnoreCase);

            // What the image holds now, as qemu sees it from the brick.
            Tool.Run("qemu-img", "convert", "-O", "raw", server.BrickFile("child.qcow2"), box["peer.raw"]);
            DiskContent.AssertEqual(content, File.ReadAllBytes(box["peer.raw"]), "on the brick");
        }
        finally
        {
            nbd.Kill();
        }
    }

    [SkippableFact]
    public void Images_are_made_converted_and_unmounted_on_a_volume()
    {
        Needs.Mounting("qemu-img", "glusterd");
        using var box = new MountBox();
        using var server = new GlusterServer();
        byte[] content = DiskContent.Make(seed: 23, Length);
        File.WriteAllBytes(box["local.raw"], content);
        Tool.Run(Tool.Imgmount, "convert", "-f", "raw", "-O", "qcow2", box["local.raw"], server.Uri("made.qcow2"));
        Tool.Run("qemu-img", "compare", "-F", "qcow2", "-f", "raw", box["local.raw"], server.BrickFile("made.qcow2"));
        Tool.Run(Tool.Imgmount, "create", "-f", "qcow2", server.Uri("empty.qcow2"), "10M");
        Assert.Contains("qcow2", Tool.Run(Tool.Imgmount, "info", server.Uri("empty.qcow2")), StringComparison.Ordinal);
        MountedImage mount = box.Mount(server.Uri("made.qcow2"));
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "mounted");

        // In the background too, a brick that does not answer holds nothing up.
        server.StopBrick();
        try
        {
            var clock = Stopwatch.StartNew();
            Tool.Try(Tool.Imgmount, "umount", "--force", mount.Point);
            Processes.WaitUntilEnded(mount.ProcessId);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(25), $"after {clock.Elapsed}");
        }
        finally
        {
            server.ContinueBrick();
        }

        Assert.Contains("libgfapi.so.0", Tool.Try(Tool.Imgmount, "doctor").Output, StringComparison.Ordinal);
    }
}
