namespace ImageMount.Mount.Tests.Support;

/// <summary>What a machine must have for these tests; a test that cannot run says what is missing.</summary>
public static class Needs
{
    /// <summary>root, /dev/fuse, QEMU's tools, and what else the test runs.</summary>
    public static void Mounting(params string[] moreTools)
    {
        Require.Root();
        Require.Fuse();
        foreach (string tool in (string[])["qemu-img", "qemu-io", "umount", .. moreTools])
        {
            Require.Tool(tool);
        }

        Assert.True(File.Exists(Tool.Imgmount), $"{Tool.Imgmount} is missing: build the solution first");
    }

    /// <summary>Loop devices, which some containers lack.</summary>
    public static void LoopDevices()
    {
        Skip.IfNot(File.Exists("/dev/loop-control"), "needs loop devices (/dev/loop-control)");
        Require.Tool("losetup");
    }
}
