using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>`create` and `convert`: what is made is what was asked for, and nobody loses a file by a slip.</summary>
public sealed class MakingTests
{
    private const int Failed = 1;
    private const int Usage = 2;

    [SkippableFact]
    public void A_created_image_is_what_the_options_say()
    {
        Require.Tool("qemu-img");
        using var box = new MountBox();
        string image = box["disk.qcow2"];
        Tool.Run(Tool.Imgmount, "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,lazy_refcounts=on", image, "100M");
        Tool.Run("qemu-img", "check", "-q", image);
        string info = Tool.Run("qemu-img", "info", image);
        Assert.Contains("104857600 bytes", info, StringComparison.Ordinal);
        Assert.Contains("cluster_size: 4096", info, StringComparison.Ordinal);
        Assert.Contains("lazy refcounts: true", info, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_child_takes_its_size_from_the_parent_and_shows_its_content()
    {
        Require.Tool("qemu-img");
        using var box = new MountBox();
        byte[] content = Content(3 * 1024 * 1024 + 512, seed: 11);
        File.WriteAllBytes(box["parent.raw"], content);
        string child = box["child.qcow2"];
        Tool.Run(Tool.Imgmount, "create", "-f", "qcow2", "-b", "parent.raw", "-F", "raw", child);
        Tool.Run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", child, box["flat.raw"]);
        Assert.Equal(content, File.ReadAllBytes(box["flat.raw"]));
    }

    [SkippableFact]
    public void A_missing_parent_is_an_error_and_leaves_nothing()
    {
        using var box = new MountBox();
        ToolResult result = Tool.Try(
            Tool.Imgmount, "create", "-f", "qcow2", "-b", "nowhere.qcow2", "-F", "qcow2", box["child.qcow2"], "1M");
        Assert.Equal(Failed, result.ExitCode);
        Assert.Contains("nowhere.qcow2", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(box["child.qcow2"]));
    }

    [SkippableFact]
    public void An_existing_file_is_kept_unless_told_otherwise()
    {
        using var box = new MountBox();
        string file = box["precious.qcow2"];
        byte[] precious = Content(100_000, seed: 12);
        File.WriteAllBytes(file, precious);
        ToolResult result = Tool.Try(Tool.Imgmount, "create", "-f", "qcow2", file, "1M");
        Assert.Equal(Failed, result.ExitCode);
        Assert.Contains("--overwrite", result.Error, StringComparison.Ordinal);
        Assert.Equal(precious, File.ReadAllBytes(file));

        Tool.Run(Tool.Imgmount, "create", "-f", "qcow2", "--overwrite", file, "1M");
        Assert.Contains("qcow2", Tool.Run(Tool.Imgmount, "info", file), StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_mistyped_option_names_the_nearest_and_makes_nothing()
    {
        using var box = new MountBox();
        string image = box["disk.qcow2"];
        ToolResult result = Tool.Try(Tool.Imgmount, "create", "-f", "qcow2", "-o", "cluster_sise=4k", image, "1M");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("cluster_size", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(image));
        Assert.Equal(Usage, Tool.Try(Tool.Imgmount, "create", image, "1 M").ExitCode);
        Assert.Contains(
            "cluster_size", Tool.Run(Tool.Imgmount, "create", "-f", "qcow2", "-o", "help"), StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_converted_image_holds_the_same_bytes_and_its_holes()
    {
        Require.Tool("qemu-img");
        using var box = new MountBox();
        byte[] content = Content(9 * 1024 * 1024 + 1536, seed: 13);
        content.AsSpan(1024 * 1024, 5 * 1024 * 1024).Clear();
        File.WriteAllBytes(box["disk.raw"], content);
        Tool.Run(Tool.Imgmount, "convert", "-f", "raw", "-O", "qcow2", box["disk.raw"], box["disk.qcow2"]);
        Tool.Run("qemu-img", "check", "-q", box["disk.qcow2"]);
        Tool.Run("qemu-img", "convert", "-O", "raw", box["disk.qcow2"], box["flat.raw"]);
        Assert.Equal(content, File.ReadAllBytes(box["flat.raw"]));
        Assert.True(new FileInfo(box["disk.qcow2"]).Length < 5 * 1024 * 1024, "zeroes were written");
    }

    [SkippableFact]
    public void A_conversion_that_fails_leaves_nothing()
    {
        using var box = new MountBox();
        File.WriteAllBytes(box["disk.raw"], Content(1024 * 1024, seed: 14));
        ToolResult result = Tool.Try(
            Tool.Imgmount, "convert", "-f", "raw", "-O", "qcow2", "-o", "size=512k", box["disk.raw"], box["disk.qcow2"]);
        Assert.Equal(Failed, result.ExitCode);
        Assert.Contains("smaller", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(box["disk.qcow2"]));
    }

    private static byte[] Content(int length, int seed)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
