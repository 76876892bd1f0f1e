using System.Buffers.Binary;
using System.Text.Json;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>A folder mounted as a FAT disk: every byte of every file, and looking again.</summary>
public sealed class FolderTests
{
    [SkippableTheory]
    [InlineData("fat:", "writeback")]
    [InlineData("fat:16:", "none")]
    [InlineData("fat:32:", "writeback")]
    public void Every_byte_of_every_file_is_the_hosts(string prefix, string cache)
    {
        Needs.Mounting("mcopy", "fsck.fat", "diff");
        using var box = new MountBox();
        string folder = Directory.CreateDirectory(box["folder"]).FullName;
        const int Seed = 4;
        MakeTree(folder, new Random(Seed));
        MountedImage mount = box.Mount(prefix + folder, "--cache", cache);
        Tool.Run("fsck.fat", "-n", mount["p1"]);
        string copies = Directory.CreateDirectory(box["copies"]).FullName;
        Tool.Run("env", "LC_ALL=C.UTF-8", "mcopy", "-s", "-n", "-i", mount["p1"], "::/", copies);
        Tool.Run("diff", "-r", folder, copies);
        Assert.Equal("400", Tool.Run("stat", "-c", "%a", mount["p1"]).Trim());
        mount.Unmount();
    }

    [SkippableFact]
    public void Looking_again_shows_what_has_changed_and_not_while_somebody_reads()
    {
        Needs.Mounting("mdir");
        using var box = new MountBox();
        string folder = Directory.CreateDirectory(box["folder"]).FullName;
        File.WriteAllText(Path.Combine(folder, "one.txt"), "1");
        MountedImage mount = box.Mount("fat:" + folder, "--fat-refresh");
        Assert.Equal("::/one.txt\n", List(mount));
        File.WriteAllText(Path.Combine(folder, "two.txt"), "2");
        using (File.OpenHandle(mount.Disk))
        {
            string first = List(mount);
            File.WriteAllText(Path.Combine(folder, "three.txt"), "3");
            Assert.Equal(first, List(mount));
        }

        string now = Until(() => List(mount), list => list.Contains("three", StringComparison.Ordinal));
        Assert.Equal("::/one.txt\n::/three.txt\n::/two.txt\n", now);
        mount.Unmount();
    }

    [SkippableFact]
    public void Without_looking_again_the_disk_stays_and_changed_files_are_logged()
    {
        Needs.Mounting("mtype");
        using var box = new MountBox();
        string folder = Directory.CreateDirectory(box["folder"]).FullName;
        string file = Path.Combine(folder, "one.txt");
        File.WriteAllText(file, new string('x', 100));
        MountedImage mount = box.Mount("fat:" + folder, "--log-file", box["log"]);
        File.WriteAllText(file, "short");
        string shown = Tool.Run("mtype", "-i", mount["p1"], "::/one.txt");
        Assert.Equal("short" + new string('\0', 95), shown);
        Assert.Contains("'one.txt' has changed", File.ReadAllText(box["log"]), StringComparison.Ordinal);
        mount.Unmount();
    }

    [SkippableFact]
    public void Errors_read_well()
    {
        Needs.Mounting();
        using var box = new MountBox();
        ToolResult result = box.TryMount("fat:/nonexistent");
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("cannot open the folder", result.Error, StringComparison.Ordinal);
        result = box.TryMount(box.Folder, "--fat-unsupported", "skip");
        Assert.Contains("for folders shown as disks", result.Error, StringComparison.Ordinal);
        File.WriteAllText(box["a:b"], "");
        result = box.TryMount("fat:" + box.Folder, "--fat-unsupported", "fail");
        Assert.Contains("'a:b' has a character", result.Error, StringComparison.Ordinal);
        result = box.TryMount("fat:" + box.Folder, "--fat-unsupported", "no");
        Assert.Contains("unsupported", result.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Info_tells_of_the_volume()
    {
        using var box = new MountBox();
        string folder = Directory.CreateDirectory(box["folder"]).FullName;
        Directory.CreateDirectory(Path.Join(folder, "sub"));
        File.WriteAllText(Path.Join(folder, "one.txt"), "1");
        File.WriteAllText(Path.Join(folder, "sub", "two.txt"), "2");
        string text = Tool.Run(Tool.Imgmount, "info", $"fat:16:{folder}");
        foreach (string line in (string[])["fat type", "label", "cluster size", "free bytes", "files", "folders", "volume id"])
        {
            Assert.Contains(line, text, StringComparison.OrdinalIgnoreCase);
        }

        using JsonDocument json = JsonDocument.Parse(Tool.Run(Tool.Imgmount, "info", "--output=json", $"fat:16:{folder}"));
        JsonElement root = json.RootElement;
        JsonElement specific = root.GetProperty("format-specific");
        Assert.Equal("raw", root.GetProperty("format").GetString());
        Assert.Equal("vvfat", specific.GetProperty("type").GetString());
        JsonElement data = specific.GetProperty("data");
        Assert.Equal(16, data.GetProperty("fat-type").GetInt32());
        Assert.Equal("IMGMOUNT", data.GetProperty("label").GetString()!.TrimEnd());
        Assert.Equal(2, data.GetProperty("files").GetInt32());
        Assert.Equal(1, data.GetProperty("folders").GetInt32());
        long cluster = root.GetProperty("cluster-size").GetInt64();
        Assert.InRange(data.GetProperty("free-bytes").GetInt64(), 64 << 20, root.GetProperty("virtual-size").GetInt64());
        Assert.Equal(0, data.GetProperty("free-bytes").GetInt64() % cluster);
    }

    private static string List(MountedImage mount) =>
        Tool.Run("env", "MTOOLS_SKIP_CHECK=1", "mdir", "-b", "-i", mount["p1"], "::");

    /// <summary>The kernel tells us of a closed file in its own time.</summary>
    private static string Until(Func<string> get, Func<string, bool> isGood)
    {
        string last = "";
        for (int i = 0; i < 100 && !isGood(last); i++)
        {
            last = get();
        }

        return last;
    }

    private static void MakeTree(string folder, Random random)
    {
        byte[] content = new byte[5 << 20];
        random.NextBytes(content);
        Directory.CreateDirectory(Path.Combine(folder, "a folder with a long name/sub/empty"));
        File.WriteAllBytes(Path.Combine(folder, "large.bin"), content);
        for (int i = 0; i < 300; i++)
        {
            string sub = i % 3 == 0 ? "" : i % 3 == 1 ? "a folder with a long name" : "a folder with a long name/sub";
            BinaryPrimitives.WriteInt32LittleEndian(content, i);
            File.WriteAllBytes(
                Path.Combine(folder, sub, $"Größe und Maß {i}.dat"), content[..(random.Next(4) * 4096 + random.Next(9000))]);
        }
    }
}
