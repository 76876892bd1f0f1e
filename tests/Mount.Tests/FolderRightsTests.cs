using System.Globalization;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>An ordinary user writes to a folder of which not all is his, in which root has worked before.</summary>
public sealed class FolderRightsTests
{
    private const int Nobody = 65534;

    [SkippableFact]
    public void What_may_not_be_written_holds_nothing_up_half_way_and_journals_of_others_are_told_of()
    {
        Needs.Mounting("fusermount3", "setpriv", "mdel");
        using var box = new MountBox();
        Prepare(box);
        string folder = box["folder"];
        Directory.CreateDirectory(Path.Join(folder, "sub"));
        File.WriteAllText(Path.Join(folder, "hello.txt"), "hello");
        File.WriteAllText(Path.Join(folder, "sub", "inner.txt"), "inner");
        Tool.Run("chown", "-R", $"{Nobody}:{Nobody}", folder);
        Tool.Run("chmod", "555", Path.Join(folder, "sub"));
        string journals = Directory.CreateDirectory(box["journals"]).FullName;
        Tool.Run("chmod", "777", journals);
        string theirs = Path.Join(journals, "theirs.journal");
        File.WriteAllText(theirs, "root's");
        Tool.Run("chmod", "600", theirs);

        string point = Directory.CreateDirectory(box["point"]).FullName;
        Give(point);
        ToolResult mounted = AsNobody(
            Tool.Imgmount, "mount", "--image-opts", $"driver=vvfat,dir={folder},rw=on,journal-dir={journals}", point,
            "--pidfile", box["pid"]);
        Assert.True(mounted.ExitCode == 0, mounted.ToString());
        int pid = int.Parse(File.ReadAllText(box["pid"]), CultureInfo.InvariantCulture);
        try
        {
            Assert.Contains($"the journal '{theirs}' is another user's", mounted.ToString(), StringComparison.Ordinal);
            string disk = $"{point}/disk.raw@@1048576";
            Mtool("mdel", "-i", disk, "::sub/inner.txt");
            Mtool("mren", "-i", disk, "::hello.txt", "::bye.txt");
            ToolResult commit = AsNobody(Tool.Imgmount, "commit", point);
            Assert.Equal(1, commit.ExitCode);
            Assert.Contains($"{folder}/sub' may not be changed", commit.ToString(), StringComparison.Ordinal);
            Assert.Contains("EACCES", commit.ToString(), StringComparison.Ordinal);
            Assert.Equal("hello", File.ReadAllText(Path.Join(folder, "hello.txt")));
            Assert.True(File.Exists(Path.Join(folder, "sub", "inner.txt")));
            Assert.Empty(Directory.GetFileSystemEntries(folder, ".imgmount-*"));

            Tool.Run("chmod", "755", Path.Join(folder, "sub"));
            commit = AsNobody(Tool.Imgmount, "commit", point);
            Assert.True(commit.ExitCode == 0, commit.ToString());
            Assert.Equal("hello", File.ReadAllText(Path.Join(folder, "bye.txt")));
            Assert.False(File.Exists(Path.Join(folder, "sub", "inner.txt")));
            ToolResult unmounted = AsNobody(Tool.Imgmount, "umount", point);
            Assert.True(unmounted.ExitCode == 0, unmounted.ToString());
        }
        finally
        {
            Processes.KillIfOurs(pid);
        }

        Assert.Equal([theirs], Directory.GetFiles(journals));
    }

    private static void Prepare(MountBox box)
    {
        Give(box.Folder);
        Skip.IfNot(
            AsNobody("test", "-x", Tool.Imgmount).ExitCode == 0,
            $"user nobody cannot reach {Tool.Imgmount} (a folder above it is private)");
        Skip.IfNot(
            AsNobody("test", "-r", "/dev/fuse", "-a", "-w", "/dev/fuse").ExitCode == 0,
            "/dev/fuse is closed to ordinary users (scripts/setup opens it, as udev does)");
        Skip.IfNot(
            Tool.Try("test", "-u", Require.FindTool("fusermount3")!).ExitCode == 0, "fusermount3 is not setuid root");
    }

    private static void Give(string path) => Tool.Run("chown", $"{Nobody}:{Nobody}", path);

    private static void Mtool(params string[] command)
    {
        ToolResult result = AsNobody(["env", "MTOOLS_SKIP_CHECK=1", .. command]);
        Assert.True(result.ExitCode == 0, result.ToString());
    }

    private static ToolResult AsNobody(params string[] command) =>
        Tool.Try("setpriv", ["--reuid", $"{Nobody}", "--regid", $"{Nobody}", "--clear-groups", "env", "HOME=/tmp", .. command]);
}
