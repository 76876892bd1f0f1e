using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Mounting.Reports;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Encrypted qcow2 images with qemu-img, both ways, over what changes where and how sectors are encrypted.</summary>
public sealed class Qcow2EncryptionTests
{
    private const int Size = (2 << 20) + 5 * 512;

    public static TheoryData<string> Kinds =>
    [
        "encrypt.format=luks",
        "encrypt.format=luks,cluster_size=512",
        "encrypt.format=luks,cluster_size=4k,refcount_bits=2",
        "encrypt.format=luks,compat=0.10",
        "encrypt.format=luks,extended_l2=on,cluster_size=16k",
        "encrypt.format=luks,encrypt.cipher-alg=serpent-256,encrypt.hash-alg=sha1",
        "encrypt.format=luks,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv",
        "encrypt.format=luks,cluster_size=2M",
        "encrypt.format=aes",
        "encrypt.format=aes,cluster_size=512",
        "encryption=on,compat=0.10,cluster_size=4k",
    ];

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Image_of_qemu_is_read_described_and_written_and_qemu_agrees(string kind)
    {
        using var dir = new TempDir();
        byte[] content = Content(1);
        string path = dir.File("disk.qcow2");
        LuksImages.Convert(dir, "raw", dir.Write("content.raw", content), "qcow2", path, ForQemu(kind));
        await ReadWriteAndCompareAsync(dir, path, content, kind);
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Image_of_ours_is_read_written_and_found_sound_by_qemu(string kind)
    {
        using var dir = new TempDir();
        byte[] content = Content(2);
        string path = dir.File("disk.qcow2");
        string options = kind.Contains("luks", StringComparison.Ordinal) ? kind + ",encrypt.pbkdf-force-iterations=1000" : kind;
        await LuksImages.CreateAsync(path, "qcow2", $"{options},encrypt.key-secret={LuksImages.SecretId}", content);
        LuksImages.CheckByQemu(dir, path);
        Equal(content, LuksImages.ReadByQemu(dir, "qcow2", path), $"{kind}, by qemu");
        Qemu.Succeed(
            "qemu-io", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}", "--image-opts",
            "-c", "write -q -P 7 3k 200k", "-c", "write -q -z 1M 64k", LuksImages.Source("qcow2", path));
        content.AsSpan(3 << 10, 200 << 10).Fill(7);
        content.AsSpan(1 << 20, 64 << 10).Clear();
        await ReadWriteAndCompareAsync(dir, path, content, kind);
    }

    [SkippableTheory]
    [InlineData("encrypt.format=luks,cluster_size=4k")]
    [InlineData("encrypt.format=aes,cluster_size=4k")]
    public async Task Snapshots_of_qemu_stay_as_they_were_while_we_write(string kind)
    {
        using var dir = new TempDir();
        byte[] content = Content(3);
        byte[] before = [.. content];
        string path = dir.File("disk.qcow2");
        LuksImages.Convert(dir, "raw", dir.Write("content.raw", content), "qcow2", path, ForQemu(kind));
        Qemu.Img(
            "snapshot", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}", "--image-opts", "-c",
            "one", LuksImages.Source("qcow2", path));
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            await LuksTests.ScribbleAsync(graph.Root, content, 4);
            await LuksImages.AssertContentAsync(graph.Root, content, "the disk");
            await LuksImages.AssertContentAsync(await graph.OpenSnapshotAsync("one"), before, "the snapshot");
        }

        LuksImages.CheckByQemu(dir, path);
        Equal(content, LuksImages.ReadByQemu(dir, "qcow2", path), "the disk, by qemu");
        Qemu.Img(
            "snapshot", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}", "--image-opts", "-a",
            "one", LuksImages.Source("qcow2", path));
        Equal(before, LuksImages.ReadByQemu(dir, "qcow2", path), "the snapshot, by qemu");
    }

    [SkippableTheory]
    [InlineData("encrypt.format=luks,cluster_size=64k", false)]
    [InlineData("encrypt.format=luks,cluster_size=4k", true)]
    [InlineData("encrypt.format=aes,cluster_size=64k", true)]
    [InlineData("encrypt.format=luks,extended_l2=on,cluster_size=32k", false)]
    public async Task Edges_of_clusters_come_from_the_parent(string kind, bool parentIsEncrypted)
    {
        using var dir = new TempDir();
        byte[] parent = TestPattern.Make((1 << 20) + 700 * 512, 0, 5);
        string raw = dir.Write("parent.raw", parent);
        string below = raw;
        if (parentIsEncrypted)
        {
            below = dir.File("parent.qcow2");
            LuksImages.Convert(dir, "raw", raw, "qcow2", below, ForQemu("encrypt.format=luks"));
        }

        string format = parentIsEncrypted ? "qcow2" : "raw";
        string path = dir.File("child.qcow2");
        string options = kind.Contains("luks", StringComparison.Ordinal) ? kind + ",encrypt.pbkdf-force-iterations=1000" : kind;
        await LuksImages.CreateAsync(path, "qcow2", $"{options},backing_file={below},backing_fmt={format}", Size);
        var model = new byte[Size];
        parent.CopyTo(model, 0);
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            await LuksImages.AssertContentAsync(graph.Root, model, "through to the parent");
            foreach ((int at, int count) in ((int, int)[])[(512, 512), (100_000, 3), (1 << 20, 400_000), (Size - 700, 700)])
            {
                TestPattern.Fill(model.AsSpan(at, count), at, at);
                await graph.Root.WriteAsync(at, model.AsMemory(at, count));
            }

            await graph.Root.ZeroAsync(200_000, 100_000);
            model.AsSpan(200_000, 100_000).Clear();
            await LuksImages.AssertContentAsync(graph.Root, model, kind);
        }

        string more = parentIsEncrypted ? $",backing.encrypt.key-secret={LuksImages.SecretId}" : "";
        LuksImages.CheckByQemu(dir, path, options: more);
        string source = LuksImages.Source("qcow2", path) + more;
        string flat = dir.File("flat.raw");
        Qemu.Img(
            "convert", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}", "--image-opts", "-O",
            "raw", source, flat);
        Equal(model, File.ReadAllBytes(flat), "by qemu");
    }

    [SkippableFact]
    public async Task Resized_disk_keeps_its_encryption()
    {
        using var dir = new TempDir();
        byte[] content = Content(6);
        string path = dir.File("disk.qcow2");
        await LuksImages.CreateAsync(
            path, "qcow2", "encrypt.format=luks,cluster_size=512,encrypt.pbkdf-force-iterations=1000", content);
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            Assert.True(await graph.Root.TryResizeAsync(Size + (1 << 20)));
        }

        Array.Resize(ref content, Size + (1 << 20));
        LuksImages.CheckByQemu(dir, path);
        Equal(content, LuksImages.ReadByQemu(dir, "qcow2", path), "by qemu");
    }

    [SkippableFact]
    public async Task Encrypted_bytes_are_in_the_file_and_plain_ones_are_not()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.qcow2");
        byte[] content = new byte[256 << 10];
        for (int i = 0; i < content.Length; i += 16)
        {
            "PLAIN TEXT HERE!"u8.CopyTo(content.AsSpan(i));
        }

        await LuksImages.CreateAsync(
            path, "qcow2", "encrypt.format=luks,encrypt.pbkdf-force-iterations=1000", content.Length);
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            await graph.Root.WriteAsync(512, content.AsMemory(512, 100_000)); // In a new cluster, with edges of zeroes.
            await graph.Root.WriteAsync(1024, content.AsMemory(1024, 512)); // And in place.
            BlockExtent extent = await graph.Root.MapAsync(0, 512);
            Assert.Equal(ExtentFlags.None, extent.Flags & ExtentFlags.HostOffset);
        }

        Assert.True(File.ReadAllBytes(path).AsSpan().IndexOf("PLAIN TEXT"u8) < 0);
    }

    private static async Task ReadWriteAndCompareAsync(TempDir dir, string path, byte[] content, string kind)
    {
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            await LuksImages.AssertContentAsync(graph.Root, content, kind);
            await AssertSameInfoAsync(graph, path);
            await LuksTests.ScribbleAsync(graph.Root, content, 8);
            await graph.Root.ZeroAsync(300_000, 500_000);
            content.AsSpan(300_000, 500_000).Clear();
            await LuksImages.AssertContentAsync(graph.Root, content, $"{kind}, written");
            CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(CancellationToken.None);
            Assert.True(report is { Corruptions: 0, Leaks: 0 }, string.Join('\n', report.Problems));
        }

        LuksImages.CheckByQemu(dir, path);
        Equal(content, LuksImages.ReadByQemu(dir, "qcow2", path), $"{kind}, by qemu");
    }

    private static void Equal(byte[] expected, byte[] found, string context) =>
        TestPattern.AssertEqual(expected, found, 0, context);

    private static byte[] Content(int seed)
    {
        byte[] content = TestPattern.Make(Size, 0, seed);
        content.AsSpan(700_000, 400_000).Clear();
        return content;
    }

    private static string ForQemu(string kind) =>
        $"{kind},encrypt.key-secret={LuksImages.SecretId}"
            + (kind.Contains("luks", StringComparison.Ordinal) ? ",encrypt.iter-time=10" : "");

    private static async Task AssertSameInfoAsync(Graph graph, string path)
    {
        DeviceInfo info = await InfoReport.DescribeAsync(graph.Image, CancellationToken.None);
        using JsonDocument ours = JsonDocument.Parse(ReportJson.Make(json => InfoReport.Write(json, info)));
        using JsonDocument theirs = JsonDocument.Parse(Qemu.Img("info", "-U", "--output=json", path));
        Assert.True(ours.RootElement.GetProperty("encrypted").GetBoolean());
        JsonElement Facts(JsonDocument document) => document.RootElement.GetProperty("format-specific");
        Assert.True(JsonElement.DeepEquals(Facts(theirs), Facts(ours)), $"qemu {Facts(theirs)}\nours {Facts(ours)}");
    }
}
