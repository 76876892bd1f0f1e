using System.Buffers.Binary;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Formats.Tests.Bochs;

/// <summary>Growing Bochs disks made by hand: geometries that no program makes, and what is refused.</summary>
public sealed class BochsTests
{
    private static byte[] Content(int sectors, int seed)
    {
        byte[] content = TestPattern.Make(sectors * 512, 0, seed);
        var random = new Random(seed);
        for (int at = 0; at < content.Length;)
        {
            int count = Math.Min(content.Length - at, random.Next(1, 90) * 512);
            if (random.Next(2) == 0)
            {
                content.AsSpan(at, count).Clear();
            }

            at += count;
        }

        return content;
    }

    private static ValueTask<Graph> OpenAsync(byte[] image) => TestGraph.Opener.OpenOverAsync(
        null, new BlockNode("test.bochs", "memory", new MemoryDevice(image)), TestGraph.ReadOnly);

    [Theory]
    [InlineData(2, 16 << 10, 512, 3001)]
    [InlineData(1, 4096, 1024, 999)]
    [InlineData(2, 512, 96, 300)]
    [InlineData(2, 1 << 20, 512, 8191)]
    [InlineData(1, 33 * 512, 512, 2000)]
    public async Task Disk_reads_as_written(int version, int extent, int header, int sectors)
    {
        byte[] content = Content(sectors, extent);
        byte[] image = new BochsWriter { Version = version, ExtentSize = extent, HeaderSize = header }.Build(content);
        await using Graph graph = await OpenAsync(image);
        Assert.Equal("bochs", graph.Root.Driver);
        await DiskReads.AssertAsync(graph.Root, content, $"version {version}, extents of {extent}");
        await DiskReads.AssertCleanAsync(graph, $"version {version}, extents of {extent}");
    }

    [Fact]
    public async Task Check_finds_extents_in_one_place_and_outside_the_file()
    {
        byte[] image = new BochsWriter().Build(TestPattern.Make(200 << 10, 0, 1));
        image.AsSpan(512, 4).CopyTo(image.AsSpan(516));
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(520), 1000);
        await using Graph graph = await OpenAsync(image);
        Assert.Equal(2, (await DiskReads.CheckAsync(graph)).Corruptions);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(2 * 16 << 10, new byte[10]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        await graph.Root.ReadAsync(3 * 16 << 10, new byte[100]);
    }

    [Theory]
    [InlineData(64, 0x30000u, BlockErrorKind.NotSupported)]
    [InlineData(68, 0u, BlockErrorKind.InvalidData)]
    [InlineData(68, 0x7fffffffu, BlockErrorKind.InvalidData)]
    [InlineData(72, 0u, BlockErrorKind.InvalidData)]
    [InlineData(72, 5u, BlockErrorKind.InvalidData)]
    [InlineData(72, 0x80000u, BlockErrorKind.InvalidData)]
    [InlineData(76, 1u, BlockErrorKind.InvalidData)]
    [InlineData(76, 0xffffffffu, BlockErrorKind.InvalidData)]
    [InlineData(80, 0u, BlockErrorKind.InvalidData)]
    [InlineData(80, 1000u, BlockErrorKind.InvalidData)]
    [InlineData(80, 0xfffffe00u, BlockErrorKind.InvalidData)]
    [InlineData(92, 0xffffffffu, BlockErrorKind.InvalidData)]
    public async Task Impossible_number_is_refused(int at, uint value, BlockErrorKind kind)
    {
        byte[] image = new BochsWriter().Build(TestPattern.Make(200 << 10, 0, 1));
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(at), value);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
        Assert.True(e.Kind == kind, e.Describe());
    }

    [Theory]
    [InlineData("Undoable")]
    [InlineData("Volatile")]
    public async Task Disks_of_changes_are_refused_by_name(string subtype)
    {
        byte[] image = new BochsWriter { Subtype = subtype }.Build(new byte[100_000]);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains(subtype, e.Describe(), StringComparison.Ordinal);
    }
}
