using System.Globalization;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>A user who is not root mounts through fusermount3.</summary>
public sealed class NonRootTests
{
    private const int Nobody = 65534;

    [SkippableFact]
    public void An_ordinary_user_mounts_writes_and_unmounts()
    {
        using MountBox box = Prepare(out string image, out byte[] content);
        string point = box["point"];
        Directory.CreateDirectory(point);
        Give(point);

        ToolResult mounted = AsNobody(Tool.Imgmount, "mount", image, point, "--pidfile", box["pid"]);
        Assert.True(mounted.ExitCode == 0, mounted.ToString());
        Assert.True(MountBox.IsMounted(point));
        int pid = int.Parse(File.ReadAllText(box["pid"]), CultureInfo.InvariantCulture);
        try
        {
            Tool.Run("sh", "-c", $"test $(stat -c %u /proc/{pid}) = {Nobody}");
            ToolResult written = AsNobody(
                "sh", "-c", $"printf 'by nobody' | dd of='{point}/disk.raw' bs=1 seek=5000 conv=notrunc,fsync status=none");
            Assert.True(written.ExitCode == 0, written.ToString());
            "by nobody"u8.CopyTo(content.AsSpan(5000));

            ToolResult unmounted = AsNobody(Tool.Imgmount, "umount", point);
            Assert.True(unmounted.ExitCode == 0, unmounted.ToString());
            Assert.False(MountBox.IsMounted(point));
        }
        finally
        {
            Processes.KillIfOurs(pid);
        }

        DiskContent.AssertEqual(content, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        DiskContent.AssertCheckClean(image);
    }

    [SkippableFact]
    public void Allow_other_without_permission_says_what_to_change()
    {
        using MountBox box = Prepare(out string image, out _);
        Skip.If(
            File.Exists("/etc/fuse.conf") && File.ReadLines("/etc/fuse.conf").Any(line => line.Trim() == "user_allow_other"),
            "/etc/fuse.conf permits allow_other here");
        string point = box["point"];
        Directory.CreateDirectory(point);
        Give(point);

        ToolResult result = AsNobody(Tool.Imgmount, "mount", image, point, "--allow-other", "--pidfile", box["pid"]);

        Assert.Equal(1, result.ExitCode);
        Assert.Contains("user_allow_other", result.Error, StringComparison.Ordinal);
        Assert.Contains("/etc/fuse.conf", result.Error, StringComparison.Ordinal);
        Assert.False(MountBox.IsMounted(point));
    }

    private static MountBox Prepare(out string image, out byte[] content)
    {
        Needs.Mounting("fusermount3", "setpriv");
        var box = new MountBox();
        try
        {
            content = DiskContent.Make(seed: 71, 2 * 1024 * 1024);
            image = Images.Make(box, "qcow2", content);
            Give(box.Folder);
            Give(image);
            ToolResult reachable = AsNobody("test", "-x", Tool.Imgmount);
            Skip.IfNot(reachable.ExitCode == 0, $"user nobody cannot reach {Tool.Imgmount} (a folder above it is private)");
            Skip.IfNot(
                AsNobody("test", "-r", "/dev/fuse", "-a", "-w", "/dev/fuse").ExitCode == 0,
                "/dev/fuse is closed to ordinary users (scripts/setup opens it, as udev does)");
            Skip.IfNot(IsSetuid("fusermount3"), "fusermount3 is not setuid root");
            return box;
        }
        catch
        {
            box.Dispose();
            throw;
        }
    }

    private static bool IsSetuid(string tool) => Tool.Try("test", "-u", Require.FindTool(tool)!).ExitCode == 0;

    private static void Give(string path) => Tool.Run("chown", $"{Nobody}:{Nobody}", path);

    private static ToolResult AsNobody(params string[] command) =>
        // HOME: nobody's is a folder that does not exist, and .NET wants one for its first-run files.
        Tool.Try("setpriv", ["--reuid", $"{Nobody}", "--regid", $"{Nobody}", "--clear-groups", "env", "HOME=/tmp", .. command]);
}
