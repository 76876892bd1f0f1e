using System.Text.Json;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>The files beside the disk: snapshots and reports.</summary>
public sealed class TreeTests
{
    private const int Length = 4 * 1024 * 1024;

    [SkippableFact]
    public void Snapshots_show_the_disk_as_it_was_while_it_is_written()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 51, Length);
        string image = Images.Make(box, "qcow2", content);
        byte[] first = [.. content];
        Tool.Run("qemu-img", "snapshot", "-c", "first", image);
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -q -P 0x77 100k 900k", image);
        content.AsSpan(100 * 1024, 900 * 1024).Fill(0x77);
        byte[] second = [.. content];
        Tool.Run("qemu-img", "snapshot", "-c", "second one", image);

        MountedImage mount = box.Mount(image);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            content.AsSpan(50_000, 2_000_000).Fill(0x99);
            RandomAccess.Write(file, content.AsSpan(50_000, 2_000_000), 50_000);
            Assert.Equal(0, Seek.Sync(file));
        }

        DiskContent.AssertEqual(first, File.ReadAllBytes(mount["snapshots/first/disk.raw"]), "the first snapshot");
        DiskContent.AssertEqual(
            second, File.ReadAllBytes(mount["snapshots/second one/disk.raw"]), "the second snapshot");
        Assert.ThrowsAny<Exception>(() =>
            File.OpenHandle(mount["snapshots/first/disk.raw"], FileMode.Open, FileAccess.Write).Dispose());
        mount.Unmount();

        DiskContent.AssertEqual(content, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        DiskContent.AssertCheckClean(image);
        Tool.Run("qemu-img", "snapshot", "-a", "first", image);
        DiskContent.AssertEqual(first, DiskContent.ReadByPeer(image, box["peer.bin"]), "the peer's first snapshot");
    }

    [SkippableFact]
    public void A_snapshot_shows_its_own_partitions()
    {
        Needs.Mounting("sfdisk");
        using var box = new MountBox();
        string sample = box["hello.qcow2"];
        File.Copy(Path.Combine(Tool.Repository, "samples/hello.qcow2"), sample);
        Tool.Run("qemu-img", "snapshot", "-c", "before", sample);
        MountedImage mount = box.Mount(sample, "--read-only");

        DiskContent.AssertEqual(
            File.ReadAllBytes(mount["p1"]), File.ReadAllBytes(mount["snapshots/before/p1"]), "p1 of the snapshot");
        mount.Unmount();
    }

    [SkippableFact]
    public void Reports_are_json_and_tell_the_truth()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 1M 64k", image);
        MountedImage mount = box.Mount(image);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(file, new byte[] { 1, 2, 3 }, 2 * 1024 * 1024);
            Assert.Equal(0, Seek.Sync(file));
        }

        using JsonDocument info = Read(mount[".imgmount/info.json"]);
        Assert.Contains("qcow2", info.RootElement.GetRawText(), StringComparison.Ordinal);
        Assert.Contains($"{Length}", info.RootElement.GetRawText(), StringComparison.Ordinal);
        using JsonDocument map = Read(mount[".imgmount/map.json"]);
        Assert.Contains($"{1024 * 1024}", map.RootElement.GetRawText(), StringComparison.Ordinal);
        using JsonDocument statistics = Read(mount[".imgmount/stats.json"]);
        Assert.Equal(JsonValueKind.Object, statistics.RootElement.ValueKind);
        mount.Unmount();
    }

    [SkippableFact]
    public void Info_map_and_check_answer_in_the_peers_schema()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, "qcow2", DiskContent.Make(seed: 52, Length));

        foreach (string verb in (string[])["info", "map", "check"])
        {
            using JsonDocument ours = JsonDocument.Parse(Tool.Run(Tool.Imgmount, verb, "--json", image));
            using JsonDocument theirs = JsonDocument.Parse(Tool.Run("qemu-img", verb, "--output=json", image));
            if (verb == "map")
            {
                Assert.Equal(Runs(theirs), Runs(ours));
                continue;
            }

            foreach (JsonProperty property in theirs.RootElement.EnumerateObject())
            {
                Assert.True(
                    ours.RootElement.TryGetProperty(property.Name, out JsonElement value) || property.Name == "children",
                    $"{verb}: '{property.Name}' is missing: {ours.RootElement.GetRawText()}");
                if (property.Value.ValueKind is JsonValueKind.Number or JsonValueKind.String)
                {
                    Assert.Equal($"{property.Name}={property.Value}", $"{property.Name}={value}");
                }
            }
        }
    }

    private static List<string> Runs(JsonDocument map) =>
        [.. map.RootElement.EnumerateArray().Select(run =>
            $"{run.GetProperty("start")}+{run.GetProperty("length")} zero={run.GetProperty("zero")} data={run.GetProperty("data")}")];

    private static JsonDocument Read(string path) => JsonDocument.Parse(File.ReadAllText(path));
}
