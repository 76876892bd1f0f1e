using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Raw;

/// <summary>New raw disks, and where their space is.</summary>
public sealed class RawCreateTests
{
    [SkippableTheory]
    [InlineData("off", 0, 64 << 10)]
    [InlineData("falloc", 3 << 20, 4 << 20)]
    [InlineData("full", 3 << 20, 4 << 20)]
    public async Task Space_is_taken_as_asked(string preallocation, int least, int most)
    {
        const int Size = (3 << 20) + 777;
        using var dir = new TempDir();
        string path = dir.File("disk.img");
        await new ImageMaker(TestGraph.Registry).CreateAsync(
            "raw", path, TestGraph.Parser.ParseImageOptions($"size={Size},preallocation={preallocation}"),
            new CreateRequest());
        Assert.Equal(new byte[Size], File.ReadAllBytes(path));
        Assert.InRange(long.Parse(Qemu.Succeed("stat", "-c", "%b", path).Trim()) * 512, least, most);
    }

    [Fact]
    public async Task File_that_cannot_reserve_space_is_refused_and_removed()
    {
        // A file in memory: the creator is told no, and must not pretend.
        var e = await Assert.ThrowsAsync<BlockException>(async () => await MemoryCreateContext.MakeAsync(
            "raw", new Formats.Raw.RawCreateOptions { Size = 1000, Preallocation = Formats.Raw.RawPreallocation.Falloc }));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains("preallocation=full", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unknown_preallocation_is_refused()
    {
        using var dir = new TempDir();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await new ImageMaker(TestGraph.Registry).CreateAsync(
            "raw", dir.File("disk.img"), TestGraph.Parser.ParseImageOptions("size=1M,preallocation=metadata"),
            new CreateRequest()));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.False(File.Exists(dir.File("disk.img")));
    }
}
