using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Encrypted images of the first qcow, with qemu-img, both ways.</summary>
public sealed class QcowEncryptionTests
{
    private const int Size = (1 << 20) + 5 * 512;

    [SkippableFact]
    public async Task Image_of_qemu_is_read_and_written_and_qemu_reads_that()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, 1);
        content.AsSpan(300_000, 200_000).Clear();
        string path = dir.File("disk.qcow");
        LuksImages.Convert(
            dir, "raw", dir.Write("content.raw", content), "qcow", path,
            $"encrypt.format=aes,encrypt.key-secret={LuksImages.SecretId}");
        await using (Graph graph = await LuksImages.OpenAsync(path, writable: true))
        {
            Assert.Equal("qcow", graph.Root.Driver);
            Assert.True((await graph.Root.DescribeAsync()).Encrypted);
            await LuksImages.AssertContentAsync(graph.Root, content, "made by qemu");
            await LuksTests.ScribbleAsync(graph.Root, content, 2);
            await LuksImages.AssertContentAsync(graph.Root, content, "written");
        }

        TestPattern.AssertEqual(content, LuksImages.ReadByQemu(dir, "qcow", path), 0, "by qemu");
    }

    [SkippableTheory]
    [InlineData("encrypt.format=aes")]
    [InlineData("encryption=on")]
    public async Task Image_of_ours_is_read_by_qemu_and_its_edges_come_from_the_parent(string options)
    {
        using var dir = new TempDir();
        byte[] parent = TestPattern.Make(700_000 / 512 * 512, 0, 3);
        string below = dir.Write("parent.raw", parent);
        string path = dir.File("child.qcow");
        await LuksImages.CreateAsync(path, "qcow", $"{options},backing_file={below},backing_fmt=raw", Size);
        var model = new byte[Size];
        parent.CopyTo(model, 0);
        OptionMap image = TestGraph.ForFile(path, "qcow");
        image.SetPath("backing.driver", "raw");
        await using (Graph graph = await TestGraph.Opener.OpenAsync(image, LuksImages.Flags(writable: true)))
        {
            await LuksImages.AssertContentAsync(graph.Root, model, "through to the parent");
            foreach ((int at, int count) in ((int, int)[])[(512, 512), (100_000, 3), (600_000, 300_000), (Size - 700, 700)])
            {
                TestPattern.Fill(model.AsSpan(at, count), at, at);
                await graph.Root.WriteAsync(at, model.AsMemory(at, count));
            }

            await LuksImages.AssertContentAsync(graph.Root, model, options);
        }

        string flat = dir.File("flat.raw");
        Qemu.Img(
            "convert", "--object", $"secret,id={LuksImages.SecretId},file={LuksImages.KeyFile(dir)}", "--image-opts", "-O",
            "raw", LuksImages.Source("qcow", path) + ",backing.driver=raw", flat);
        byte[] theirs = File.ReadAllBytes(flat);
        TestPattern.AssertEqual(model, theirs, 0, "by qemu");
    }
}
