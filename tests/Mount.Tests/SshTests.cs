using System.Diagnostics;
using ImageMount.Mount.Tests.Support;
using ImageMount.TestSupport.Servers;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace ImageMount.Mount.Tests;

/// <summary>Mounts of images on an SSH server.</summary>
public sealed class SshTests
{
    private const int Length = 4 << 20;

    [SkippableFact]
    public void An_image_with_a_parent_on_a_web_server_is_written_while_connections_are_killed_and_read_by_qemu()
    {
        Needs.Mounting("qemu-img", "sshd", "nginx", "ssh-agent", "ssh-add");
        using var box = new MountBox();
        byte[] expected = DiskContent.Make(41, Length);
        File.WriteAllBytes(box["base.raw"], expected);
        using var web = new WebServer(box.Folder);
        using var server = new SshServer();
        Tool.Run(
            "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", web.Url("base.raw"), "-F", "raw", box["child.qcow2"],
            $"{Length}");
        MountedImage mount = box.Mount(Source(server, box["child.qcow2"]), "--allow-external");
        DiskContent.AssertEqual(expected, File.ReadAllBytes(mount.Disk), "as it was");
        using (SafeFileHandle disk = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            for (int round = 0; round < 4; round++)
            {
                for (int at = round * 70_000; at < Length - 50_000; at += 500_000)
                {
                    byte[] part = DiskContent.Make((round * 1000) + at, 40_000);
                    part.CopyTo(expected, at);
                    RandomAccess.Write(disk, part, at);
                }

                // The writes of this round are in the kernel; what is sent now finds no connection, or loses it.
                Assert.NotEqual(0, server.KillConnections());
                RandomAccess.FlushToDisk(disk);
            }

            DiskContent.AssertEqual(expected, File.ReadAllBytes(mount.Disk), "read back");
        }

        mount.Unmount();
        Tool.Run("qemu-img", "check", "-q", "-f", "qcow2", box["child.qcow2"]);

        // QEMU's client knows keys from an agent only. The parent is the file itself: its curl driver hangs now and then.
        string socket = box["agent"];
        using Process agent = Tool.Start("ssh-agent", "-D", "-a", socket);
        try
        {
            Assert.True(SpinWait.SpinUntil(() => File.Exists(socket), TimeSpan.FromSeconds(20)), "no agent");
            Tool.Run("env", $"SSH_AUTH_SOCK={socket}", "ssh-add", "-q", server.Identity);
            Tool.Run(
                "env", $"SSH_AUTH_SOCK={socket}", "qemu-img", "convert", "-O", "raw",
                $"json:{{\"driver\":\"qcow2\",\"file\":{{\"driver\":\"ssh\",\"server\":{{\"host\":\"127.0.0.1\","
                    + $"\"port\":\"{server.Port}\"}},\"user\":\"{Environment.UserName}\",\"path\":\"{box["child.qcow2"]}\","
                    + "\"host-key-check\":{\"mode\":\"none\"}},\"backing\":{\"driver\":\"raw\",\"file\":"
                    + $"{{\"driver\":\"file\",\"filename\":\"{box["base.raw"]}\"}}}}}}",
                box["flat.raw"]);
        }
        finally
        {
            agent.Kill();
        }

        DiskContent.AssertEqual(expected, File.ReadAllBytes(box["flat.raw"]), "by qemu's client");
    }

    [SkippableFact]
    public void A_server_that_is_stopped_holds_up_neither_unmounting_nor_what_comes_after()
    {
        Needs.Mounting("sshd");
        using var box = new MountBox();
        byte[] content = DiskContent.Make(42, Length);
        File.WriteAllBytes(box["disk.raw"], content);
        using var server = new SshServer();
        MountedImage mount = box.Mount(Source(server, box["disk.raw"]), "--read-only");
        server.Stop();
        Task<byte[]> reading = Task.Run(() => File.ReadAllBytes(mount.Disk));
        var clock = Stopwatch.StartNew();
        Tool.Try(Tool.Imgmount, "umount", "--force", mount.Point);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(40), $"after {clock.Elapsed}");
        Exception? e = Record.Exception(() => reading.GetAwaiter().GetResult());
        Assert.True(e is null or IOException, $"{e}");
        Processes.WaitUntilEnded(mount.ProcessId);
        Assert.False(MountBox.IsMounted(mount.Point));

        // It goes on in the middle of a read that waits for it.
        server.Continue();
        mount = box.Mount(Source(server, box["disk.raw"], "\"timeout\":1,"), "--read-only");
        server.Stop();
        reading = Task.Run(() => File.ReadAllBytes(mount.Disk));
        Assert.False(reading.Wait(TimeSpan.FromSeconds(2)), "read from a server that is stopped");
        server.Continue();
        Assert.True(reading.Wait(TimeSpan.FromSeconds(60)), "not read after the server went on");
        DiskContent.AssertEqual(content, reading.Result, "after a stall");
        mount.Unmount();
    }

    private static string Source(SshServer server, string path, string more = "") =>
        $"json:{{\"file\":{{\"driver\":\"ssh\",\"host\":\"127.0.0.1\",\"port\":{server.Port},{more}\"path\":\"{path}\","
        + $"\"config\":\"{server.ClientConfig}\",\"identity\":\"{server.Identity}\"}}}}";
}
