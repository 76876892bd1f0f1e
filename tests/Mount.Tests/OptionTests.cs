using System.Globalization;
using System.Text.Json;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>Ways to name an image, and options that change what its files look like.</summary>
public sealed class OptionTests
{
    private const int Length = 4 * 1024 * 1024;

    [SkippableFact]
    public void An_image_is_found_by_path_by_options_and_by_json()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 81, Length);
        string image = Images.Make(box, "qcow2", content);
        string json = "json:" + JsonSerializer.Serialize(
            new { driver = "qcow2", file = new { driver = "file", filename = image } });
        (string Source, string[] Options)[] ways =
        [
            (image, ["-f", "qcow2"]),
            ($"driver=qcow2,file.driver=file,file.filename={image}", ["--image-opts"]),
            (json, []),
        ];

        foreach ((string source, string[] options) in ways)
        {
            MountedImage mount = box.Mount(source, ["--read-only", .. options]);
            DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), source);
            mount.Unmount();
        }
    }

    [SkippableFact]
    public void A_named_format_is_not_second_guessed()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image, "--read-only", "-f", "raw");
        DiskContent.AssertEqual(File.ReadAllBytes(image), File.ReadAllBytes(mount.Disk), "the file itself");
        mount.Unmount();
    }

    [SkippableFact]
    public void Offset_and_size_show_a_part_of_the_disk()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 82, Length);
        string image = Images.Make(box, "qcow2", content);
        MountedImage mount = box.Mount(image, "--read-only", "--offset", "1M", "--size", "1536k");
        DiskContent.AssertEqual(
            content.AsSpan(1024 * 1024, 1536 * 1024), File.ReadAllBytes(mount.Disk), "the part");
        mount.Unmount();
    }

    [SkippableFact]
    public void Owner_group_and_permissions_are_as_asked()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image, "--uid", "1234", "--gid", "2345", "--mode", "640");
        Assert.Equal("1234 2345 640", Tool.Run("stat", "-c", "%u %g %a", mount.Disk).Trim());
        mount.Unmount();
    }

    [SkippableFact]
    public void Other_users_may_look_in_only_when_allowed()
    {
        Needs.Mounting("setpriv");
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        Tool.Run("chmod", "755", box.Folder);

        MountedImage closed = box.Mount(image, "--mode", "644");
        Assert.NotEqual(0, HeadAsNobody(closed.Disk).ExitCode);
        closed.Unmount();
        MountedImage open = box.Mount(image, "--allow-other");
        ToolResult read = HeadAsNobody(open.Disk);
        Assert.True(read.ExitCode == 0, read.ToString());
        open.Unmount();
    }

    [SkippableFact]
    public void Options_in_the_manner_of_mount_mean_the_same()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image, "-o", "ro,uid=1234,cache=none");
        Assert.Equal("1234", Tool.Run("stat", "-c", "%u", mount.Disk).Trim());
        Assert.NotEqual(0, Tool.Try("dd", "if=/dev/zero", $"of={mount.Disk}", "conv=notrunc", "count=1").ExitCode);
        mount.Unmount();
    }

    [SkippableFact]
    public void With_discard_ignored_a_punched_hole_keeps_its_space()
    {
        Needs.Mounting("fallocate");
        using var box = new MountBox();
        byte[] content = new byte[Length];
        new Random(83).NextBytes(content);
        string image = Images.Make(box, "qcow2", content);
        long before = Blocks(image);
        MountedImage mount = box.Mount(image, "--discard", "ignore");
        Tool.Run("fallocate", "--punch-hole", "--offset", "1M", "--length", "2M", mount.Disk);
        mount.Unmount();

        content.AsSpan(1024 * 1024, 2 * 1024 * 1024).Clear();
        DiskContent.AssertEqual(content, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        Assert.InRange(Blocks(image), before - 64, long.MaxValue);
        DiskContent.AssertCheckClean(image);
    }

    private static ToolResult HeadAsNobody(string path) => Tool.Try(
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "head", "-c", "512", path);

    private static long Blocks(string path) =>
        long.Parse(Tool.Run("stat", "-c", "%b", path), CultureInfo.InvariantCulture);
}
