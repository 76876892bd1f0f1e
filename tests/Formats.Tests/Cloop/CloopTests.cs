using System.Buffers.Binary;
using System.Text;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Formats.Tests.Cloop;

/// <summary>Compressed loop images made by hand, and what is refused.</summary>
public sealed class CloopTests
{
    private static ValueTask<Graph> OpenAsync(byte[] image) => TestGraph.Opener.OpenOverAsync(
        null, new BlockNode("test.cloop", "memory", new MemoryDevice(image)), TestGraph.ReadOnly);

    [Theory]
    [InlineData(512, 333)]
    [InlineData(64 << 10, 40)]
    [InlineData(1 << 20, 3)]
    [InlineData(3 * 512, 77)]
    public async Task Image_reads_as_written(int block, int blocks)
    {
        byte[] content = TestPattern.Make(block * blocks, 0, block);
        for (int i = 0; i < blocks; i += 3)
        {
            content.AsSpan(i * block, block - 100).Fill((byte)i);
        }

        await using Graph graph = await OpenAsync(CloopWriter.Build(content, block));
        Assert.Equal("cloop", graph.Root.Driver);
        await DiskReads.AssertAsync(graph.Root, content, $"blocks of {block}");
        await DiskReads.AssertCleanAsync(graph, $"blocks of {block}");
    }

    [Fact]
    public async Task Damaged_block_fails_alone_and_is_named_by_the_check()
    {
        const int Block = 4096;
        byte[] content = TestPattern.Make(Block * 10, 0, 1);
        byte[] image = CloopWriter.Build(content, Block);
        long third = BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(136 + 8 * 3));
        image[third + 100] ^= 0x55;
        await using Graph graph = await OpenAsync(image);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(3 * Block, new byte[10]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        await graph.Root.ReadAsync(4 * Block, new byte[6 * Block]);
        CheckReport report = await DiskReads.CheckAsync(graph);
        Assert.Contains("block 3", Assert.Single(report.Problems), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(128, 0u, BlockErrorKind.InvalidData)]
    [InlineData(128, 513u, BlockErrorKind.InvalidData)]
    [InlineData(128, 0x8000000u, BlockErrorKind.InvalidData)]
    [InlineData(132, 0x7fffffffu, BlockErrorKind.LimitExceeded)]
    [InlineData(132, 0x100000u, BlockErrorKind.InvalidData)]
    [InlineData(136, 1u, BlockErrorKind.InvalidData)]
    [InlineData(140, 0u, BlockErrorKind.InvalidData)]
    [InlineData(148, 0u, BlockErrorKind.InvalidData)]
    [InlineData(148, 0x7fffffffu, BlockErrorKind.InvalidData)]
    public async Task Impossible_number_is_refused(int at, uint value, BlockErrorKind kind)
    {
        byte[] image = CloopWriter.Build(TestPattern.Make(100_000, 0, 1), 4096);
        BinaryPrimitives.WriteUInt32BigEndian(image.AsSpan(at), value);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
        Assert.True(e.Kind == kind, e.Describe());
    }

    [Theory]
    [InlineData("V3.0 ")]
    [InlineData("V4.0 ")]
    [InlineData("V1.0 ")]
    public async Task Other_versions_are_refused_by_name(string version)
    {
        byte[] image = CloopWriter.Build(new byte[100_000], 4096);
        Encoding.ASCII.GetBytes(version, image.AsSpan(11));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains($"'{version[1..].Trim()}'", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Writing_is_refused_with_advice()
    {
        byte[] image = CloopWriter.Build(new byte[100_000], 4096);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.Opener.OpenOverAsync(
            "cloop", new BlockNode("test.cloop", "memory", new MemoryDevice(image)), TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }
}
