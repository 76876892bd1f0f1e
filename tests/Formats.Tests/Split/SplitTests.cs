using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Split;

/// <summary>Which parts make a disk, and which do not.</summary>
public sealed class SplitTests
{
    [Fact]
    public async Task First_part_with_a_second_beside_it_is_recognised_and_alone_it_is_not()
    {
        using var dir = new TempDir();
        dir.Write("a.001", TestPattern.Make(1000, 0, 1));
        await using (Graph alone = await TestGraph.OpenAsync(dir.File("a.001")))
        {
            Assert.Equal(("raw", 1000L), (alone.Root.Driver, alone.Root.Length));
        }

        dir.Write("a.002", TestPattern.Make(333, 0, 2));
        dir.Write("a.003", TestPattern.Make(5, 0, 3));
        await using (Graph graph = await TestGraph.OpenAsync(dir.File("a.001")))
        {
            Assert.Equal(("split", 1338L), (graph.Root.Driver, graph.Root.Length));
            var found = new byte[1338];
            await graph.Root.ReadAsync(0, found);
            byte[] expected =
                [.. TestPattern.Make(1000, 0, 1), .. TestPattern.Make(333, 0, 2), .. TestPattern.Make(5, 0, 3)];
            Assert.Equal(expected, found);
        }

        await using Graph second = await TestGraph.OpenAsync(dir.File("a.002"));
        Assert.Equal("raw", second.Root.Driver);
    }

    [Fact]
    public async Task Missing_part_is_named()
    {
        using var dir = new TempDir();
        foreach (int number in (int[])[1, 2, 3, 7])
        {
            dir.Write($"a.{number:000}", new byte[512]);
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(dir.File("a.001")));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        Assert.Contains("a.004", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("a.007", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Complete_image_with_a_number_is_what_its_content_says()
    {
        using var dir = new TempDir();
        byte[] image = await MemoryCreateContext.MakeAsync("qed", new Formats.Qed.QedCreateOptions { Size = 1 << 20 });
        dir.Write("a.001", image);
        dir.Write("a.002", image);
        await using Graph graph = await TestGraph.OpenAsync(dir.File("a.001"));
        Assert.Equal("qed", graph.Root.Driver);
    }

    [Fact]
    public async Task Cut_image_of_another_format_is_read_and_written_through_its_parts()
    {
        using var dir = new TempDir();
        byte[] image = await MemoryCreateContext.MakeAsync(
            "qcow2", new Formats.Qcow2.Qcow2CreateOptions { Size = 200_000, ClusterSize = 4096 });
        Array.Resize(ref image, 600_000); // Parts do not grow: room for the data.
        for (int at = 0, number = 1; at < image.Length; at += 100_000, number++)
        {
            dir.Write($"a.{number:000}", image.AsSpan(at, 100_000));
        }

        string options = $"driver=qcow2,file.driver=split,file.file.filename={dir.File("a.001")}";
        byte[] content = TestPattern.Make(150_000, 0, 4);
        await using (Graph graph = await TestGraph.OpenOptionsAsync(options, TestGraph.Writable))
        {
            await graph.Root.WriteAsync(1234, content);
        }

        await using Graph again = await TestGraph.OpenOptionsAsync(options);
        var found = new byte[content.Length];
        await again.Root.ReadAsync(1234, found);
        Assert.True(content.AsSpan().SequenceEqual(found));
    }

    [Fact]
    public async Task Parts_with_other_names_are_given_by_hand()
    {
        using var dir = new TempDir();
        string first = dir.Write("first", TestPattern.Make(700, 0, 1));
        string second = dir.Write("second", TestPattern.Make(900, 0, 2));
        await using (Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=split,file.filename={first},parts.2.file.filename={second}"))
        {
            Assert.Equal(1600, graph.Root.Length);
        }

        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenOptionsAsync($"driver=split,file.filename={first}"));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }

    [Fact]
    public async Task Too_many_parts_are_refused()
    {
        using var dir = new TempDir();
        for (int number = 1; number <= Formats.Split.SplitDriver.MaxParts + 1; number++)
        {
            dir.Write($"a.{number:000}", [1]);
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(dir.File("a.001")));
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
        File.Delete(dir.File($"a.{Formats.Split.SplitDriver.MaxParts + 1:000}"));
        await using Graph graph = await TestGraph.OpenAsync(dir.File("a.001"));
        Assert.Equal(Formats.Split.SplitDriver.MaxParts, graph.Root.Length);
    }
}
