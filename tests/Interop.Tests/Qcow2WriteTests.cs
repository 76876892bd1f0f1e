using System.Security.Cryptography;
using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests;

/// <summary>
/// qcow2 images that qemu made and we write: qemu finds them sound and reads what we wrote; snapshots and the parent
/// are as they were; qemu writes on and we read that.
/// </summary>
public sealed class Qcow2WriteTests(ITestOutputHelper output)
{
    private const int Seed = 7007;
    private const int Steps = 120;

    [SkippableFact]
    public async Task Image_of_every_option_written_by_us_is_sound_for_qemu()
    {
        PeerTool.Require();
        await MatrixRun.AllAsync(Seed, WriteAndCompareAsync, output);
    }

    internal static async Task WriteAndCompareAsync(Qcow2Variant variant, int seed, string name)
    {
        using var scratch = new Scratch();
        QemuImage image = QemuImages.Qcow2(scratch, variant, seed);
        string model = QemuImages.Flatten(image, scratch["model"]);
        string backing = image.Backing is null ? "" : Hash(image.Backing);
        for (int i = 0; i < variant.Snapshots; i++)
        {
            QemuImages.Flatten(image, scratch[$"old{i}"], $"snap-{i}");
        }

        await using (Graph graph = await TestGraph.OpenAsync(image.Path, TestGraph.Writable))
        {
            using var disk = new ModelDisk(graph.Root, model, image.Islands, seed, name);
            for (int i = 0; i < Steps; i++)
            {
                await disk.StepAsync();
            }

            if (variant.Snapshots > 0)
            {
                BlockNode old = await graph.OpenSnapshotAsync("snap-0");
                await ReadComparison.AssertSameContentAsync(old, scratch["old0"], image.Islands, seed, $"{name} live snapshot");
            }

            CheckReport live = await ((ICheckable)graph.Image.Device).CheckAsync(CancellationToken.None);
            Assert.True(live.Corruptions == 0, $"{name}: live check: {string.Join('\n', live.Problems.Take(5))}");
        }

        AssertSound(image.Path, name);
        AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, $"{name}: content by qemu");
        for (int i = 0; i < variant.Snapshots; i++)
        {
            string now = QemuImages.Flatten(image, scratch[$"now{i}"], $"snap-{i}");
            AssertSameFiles(now, scratch[$"old{i}"], $"{name}: snapshot {i}");
        }

        Assert.True(image.Backing is null || Hash(image.Backing) == backing, $"{name}: the backing file was changed");
        if (variant.DataFile == "raw")
        {
            AssertSameFiles(scratch["data.raw"], model, $"{name}: raw data file");
        }

        if (variant.Bitmaps)
        {
            AssertBitmapsTellTheTruth(image.Path, name);
        }

        PeerTool.Io(image.Path, "qcow2", ["write -q -P 77 1k 9k", "write -q -z 64k 20k", "discard -q 0 64k"]);
        AssertSound(image.Path, $"{name}, written on by qemu");
        string flat = QemuImages.Flatten(image, scratch["final"]);
        await using Graph again = await TestGraph.OpenAsync(image.Path);
        await ReadComparison.AssertSameContentAsync(again.Root, flat, image.Islands, seed, $"{name}, written on by qemu");
    }

    private static void AssertSound(string path, string name)
    {
        PeerCheck check = PeerCheck.Run(path, "qcow2");
        Assert.True(check.ExitCode == 0, $"{name}: qemu-img check: {check.Text}");
        using JsonDocument info = JsonDocument.Parse(PeerTool.Img("info", "--output=json", path));
        Assert.False(info.RootElement.GetProperty("dirty-flag").GetBoolean(), $"{name}: still marked dirty");
    }

    /// <summary>A bitmap that records, and did not record our writes, must say so; qemu then does not use it.</summary>
    private static void AssertBitmapsTellTheTruth(string path, string name)
    {
        using JsonDocument info = JsonDocument.Parse(PeerTool.Img("info", "--output=json", path));
        JsonElement data = info.RootElement.GetProperty("format-specific").GetProperty("data");
        if (!data.TryGetProperty("bitmaps", out JsonElement bitmaps))
        {
            return; // all given up: nothing claims anything
        }

        foreach (JsonElement bitmap in bitmaps.EnumerateArray())
        {
            string[] flags = [.. bitmap.GetProperty("flags").EnumerateArray().Select(flag => flag.GetString()!)];
            Assert.True(
                !flags.Contains("auto") || flags.Contains("in-use"),
                $"{name}: bitmap {bitmap} records and claims to be complete, but nobody recorded our writes");
        }
    }

    private static string Hash(string path)
    {
        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexString(SHA256.HashData(stream));
    }

    internal static void AssertSameFiles(string found, string expected, string name)
    {
        PeerResult result = PeerTool.TryImg("compare", "-q", "-f", "raw", "-F", "raw", found, expected);
        if (result.ExitCode != 0)
        {
            Assert.Fail($"{name}: {PeerTool.TryImg("compare", "-f", "raw", "-F", "raw", found, expected)}");
        }
    }
}
