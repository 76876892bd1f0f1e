using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>An image from somebody else that names a file outside its folder, on the command line.</summary>
public sealed class ConfinementTests
{
    private const int Length = 1024 * 1024;

    [SkippableFact]
    public void A_parent_outside_the_folder_is_opened_only_when_the_user_says_so()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 83, Length);
        Directory.CreateDirectory(box["theirs"]);
        File.WriteAllBytes(box["secret.raw"], content);
        string image = box["theirs/disk.qcow2"];
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "../secret.raw", "-F", "raw", image);

        string point = box["point"];
        ToolResult refused = box.TryMountAt(image, point, out _, "--read-only");
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("secret.raw", refused.Error, StringComparison.Ordinal);
        Assert.Contains("--allow-external", refused.Error, StringComparison.Ordinal);
        Assert.False(MountBox.IsMounted(point));
        ToolResult info = Tool.Try(Tool.Imgmount, "map", image);
        Assert.True(info.ExitCode == 1 && info.Error.Contains("--allow-external", StringComparison.Ordinal), $"{info}");

        string options = $"driver=qcow2,file.filename={image},backing";
        (string Source, string[] Options, byte[] Expected)[] ways =
        [
            (image, ["--allow-external"], content),
            ($"{options}.driver=raw,backing.file.filename={box["secret.raw"]}", ["--image-opts"], content),
            ($"{options}=", ["--image-opts"], new byte[Length]),
        ];
        foreach ((string source, string[] more, byte[] expected) in ways)
        {
            MountedImage mount = box.Mount(source, ["--read-only", .. more]);
            DiskContent.AssertEqual(expected, File.ReadAllBytes(mount.Disk), source);
            mount.Unmount();
        }
    }
}
