using System.Diagnostics;
using System.Globalization;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>Two programs never write one image: locks that QEMU's tools and imgmount both honour.</summary>
public sealed class LockTests
{
    private const int Length = 4 * 1024 * 1024;

    [SkippableTheory]
    [InlineData("qcow2")]
    [InlineData("raw")]
    public void The_peer_refuses_an_image_that_is_mounted_for_writing(string kind)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, kind, new byte[Length]);
        MountedImage mount = box.Mount(image);
        string format = kind;

        ToolResult write = Tool.Try("qemu-io", "-f", format, "-c", "write 0 4k", image);
        ToolResult info = Tool.Try("qemu-img", "info", image);
        ToolResult forced = Tool.Try("qemu-img", "info", "-U", image);
        mount.Unmount();

        Assert.NotEqual(0, write.ExitCode);
        Assert.Contains("lock", write.Error, StringComparison.Ordinal);
        // Of a raw image qemu-img info reads nothing, so it asks for no lock.
        Assert.Equal(kind == "raw", info.ExitCode == 0);
        Assert.True(forced.ExitCode == 0, forced.ToString());
        Tool.Run("qemu-io", "-f", format, "-c", "write 0 4k", image);
    }

    [SkippableFact]
    public void The_peer_may_read_an_image_that_is_mounted_read_only()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage first = box.Mount(image, "--read-only");
        MountedImage second = box.Mount(image, "--read-only");
        Tool.Run("qemu-img", "info", image);
        Assert.NotEqual(0, Tool.Try("qemu-io", "-f", "qcow2", "-c", "write 0 4k", image).ExitCode);
        first.Unmount();
        second.Unmount();
    }

    [SkippableFact]
    public void An_image_that_the_peer_writes_is_refused_and_its_holder_named()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        using Process holder = Tool.Start("qemu-io", "-f", "qcow2", image);
        try
        {
            // Its answer to the first command tells that it has the image open, and so locked.
            holder.StandardInput.WriteLine("length");
            Assert.Contains("4 MiB", holder.StandardOutput.ReadLine(), StringComparison.Ordinal);

            ToolResult mounted = box.TryMount(image);
            ToolResult readOnly = box.TryMount(image, "--read-only");
            ToolResult forced = box.TryMount(image, "--read-only", "--force-share");

            Assert.Equal(1, mounted.ExitCode);
            Assert.Contains("qemu-io", mounted.Error, StringComparison.Ordinal);
            Assert.Contains(holder.Id.ToString(CultureInfo.InvariantCulture), mounted.Error, StringComparison.Ordinal);
            Assert.Equal(1, readOnly.ExitCode);
            Assert.True(forced.ExitCode == 0, forced.ToString());
        }
        finally
        {
            holder.StandardInput.Close();
            Assert.True(holder.WaitForExit(TimeSpan.FromSeconds(30)));
        }
    }

    [SkippableFact]
    public void Two_mounts_for_writing_of_one_image_are_refused()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image);

        ToolResult second = box.TryMount(image);

        Assert.Equal(1, second.ExitCode);
        Assert.Contains(
            mount.ProcessId.ToString(CultureInfo.InvariantCulture), second.Error, StringComparison.Ordinal);
        mount.Unmount();
    }
}
