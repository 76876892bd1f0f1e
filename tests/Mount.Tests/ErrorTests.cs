using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>What a user sees when something is wrong: one message that helps, no stack trace, the right exit code.</summary>
public sealed class ErrorTests
{
    private const int Failed = 1;
    private const int Usage = 2;

    [SkippableFact]
    public void A_missing_image_is_named()
    {
        Needs.Mounting();
        using var box = new MountBox();
        AssertFails(Failed, box.TryMount(box["nowhere.qcow2"]), "nowhere.qcow2");
        AssertFails(Failed, Tool.Try(Tool.Imgmount, "info", box["nowhere.qcow2"]), "nowhere.qcow2");
    }

    [SkippableFact]
    public void A_damaged_image_is_refused_with_what_is_wrong()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 1024 * 1024);
        byte[] bytes = File.ReadAllBytes(image);
        bytes[7] = 99; // the version
        File.WriteAllBytes(image, bytes);
        AssertFails(Failed, box.TryMount(image), "99");
        AssertFails(Failed, Tool.Try(Tool.Imgmount, "check", image), "99");

        File.WriteAllBytes(image, bytes.AsSpan(0, 40));
        AssertFails(Failed, box.TryMount(image), "disk.qcow2");
    }

    [SkippableFact]
    public void An_unknown_option_is_a_usage_error_that_names_it()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 1024 * 1024);
        AssertFails(Usage, box.TryMount(image, "--read-onyl"), "read-onyl");
        AssertFails(Usage, box.TryMount(image, "--cache", "sometimes"), "sometimes");
        AssertFails(Usage, Tool.Try(Tool.Imgmount, "umount"), "");
    }

    [SkippableFact]
    public void A_mistyped_driver_option_names_the_nearest_one()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 1024 * 1024);
        ToolResult result = Tool.Try(
            Tool.Imgmount, "info", "--image-opts", $"driver=qcow2,file.driver=file,file.filenam={image}");
        AssertFails(result.ExitCode, result, "filename");
        Assert.NotEqual(0, result.ExitCode);
    }

    [SkippableFact]
    public void A_missing_parent_is_named_with_the_image_that_wants_it()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, "qcow2 backed", new byte[1024 * 1024]);
        File.Delete(box["parent.qcow2"]);
        AssertFails(Failed, box.TryMount(image), "parent.qcow2");
    }

    [SkippableFact]
    public void A_mount_point_that_cannot_be_used_is_named()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 1024 * 1024);
        AssertFails(Failed, Tool.Try(Tool.Imgmount, "mount", image, box["no/such/parent"]), "no/such/parent");
    }

    [SkippableFact]
    public void Help_and_version_go_to_standard_output_and_succeed()
    {
        Needs.Mounting();
        foreach (string argument in (string[])["--help", "--version"])
        {
            ToolResult result = Tool.Try(Tool.Imgmount, argument);
            Assert.Equal(0, result.ExitCode);
            Assert.NotEqual("", result.Output.Trim());
        }

        Assert.Contains("umount", Tool.Run(Tool.Imgmount, "--help"), StringComparison.Ordinal);
    }

    private static void AssertFails(int exitCode, ToolResult result, string mentioned)
    {
        Assert.True(result.ExitCode == exitCode, $"expected exit {exitCode}: {result}");
        Assert.Contains(mentioned, result.Error + result.Output, StringComparison.Ordinal);
        Assert.False(
            result.Error.Contains("   at ", StringComparison.Ordinal) ||
            result.Error.Contains("Exception", StringComparison.Ordinal),
            $"a stack trace is shown: {result}");
    }
}
