using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Compressed;

/// <summary>What holds for every compressed file.</summary>
public sealed class PackedTests
{
    public static TheoryData<string> Drivers => [.. PackedFiles.Tools.Select(tool => tool.Driver)];

    [SkippableTheory]
    [MemberData(nameof(Drivers))]
    public async Task File_is_recognised_and_opened_in_place(string driver)
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(400_000, 1);
        string path = dir.Write("disk", PackedFiles.Make(driver, content));
        await using Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
        Assert.Equal(["file", driver, "raw"], graph.Nodes.Select(node => node.Driver));
        Assert.False(graph.Root.CanWrite);
        Assert.Contains("for reading only", Assert.Single(graph.Warnings), StringComparison.Ordinal);
        await PackedFiles.AssertReadsAsync(graph, content, 2);
    }

    [SkippableTheory]
    [MemberData(nameof(Drivers))]
    public async Task Empty_content_is_an_empty_disk(string driver)
    {
        using var dir = new TempDir();
        string path = dir.Write("empty", PackedFiles.Make(driver, []));
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal(0, graph.Root.Length);
        Assert.Contains(graph.Nodes, node => node.Driver == driver);
    }

    [SkippableTheory]
    [MemberData(nameof(Drivers))]
    public async Task Damage_is_an_error_or_does_no_harm(string driver)
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(300_000, 3);
        byte[] file = PackedFiles.Make(driver, content);
        var random = new Random(4);
        int failures = 0;
        const int Cases = 120;
        for (int i = 0; i < Cases; i++)
        {
            byte[] damaged = (byte[])file.Clone();
            int at = random.Next(file.Length);
            damaged[at] ^= (byte)(1 << random.Next(8));
            (string, string)[] options = i % 3 == 0 ? [("spool-above", "4k")] : [];
            BlockException? e = await PackedFiles.FailureAsync(
                dir.Write("damaged", damaged), driver, content, options);
            failures += e is null ? 0 : 1;
        }

        Assert.True(failures > Cases * 9 / 10, $"only {failures} of {Cases} were noticed");
    }

    [SkippableTheory]
    [MemberData(nameof(Drivers))]
    public async Task File_that_is_cut_off_is_refused_when_it_is_opened(string driver)
    {
        using var dir = new TempDir();
        byte[] file = PackedFiles.Make(driver, PackedFiles.Content(300_000, 5));
        var random = new Random(6);
        int[] lengths = [0, 1, 11, 12, 30, file.Length - 1, file.Length - 4, file.Length - 9,
            .. Enumerable.Range(0, 20).Select(_ => random.Next(file.Length))];
        foreach (int length in lengths)
        {
            string path = dir.Write("cut", file.AsSpan(0, length));
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await PackedFiles.OpenAsync(path, driver));
            Assert.True(e.Kind == BlockErrorKind.InvalidData, $"{length}: {e.Describe()}");
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Drivers))]
    public async Task Check_finds_what_reading_would_find(string driver)
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(500_000, 7);
        byte[] file = PackedFiles.Make(driver, content);
        await using (Graph sound = await PackedFiles.OpenAsync(dir.Write("sound", file), driver))
        {
            CheckReport report = await ((ICheckable)sound.Root.Device).CheckAsync(CancellationToken.None);
            Assert.True(report is { Corruptions: 0, CheckErrors: 0, TotalClusters: > 0 });
        }

        // Damage that comes after opening, as on a disk that fails: what was indexed then is compared again.
        string path = dir.Write("damaged", file);
        await using Graph graph = await PackedFiles.OpenAsync(path, driver);
        file[file.Length / 2] ^= 0x10;
        File.WriteAllBytes(path, file);
        CheckReport damaged = await ((ICheckable)graph.Root.Device).CheckAsync(CancellationToken.None);
        Assert.NotEqual(0, damaged.Corruptions);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await PackedFiles.ReadAllAsync(graph));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        Assert.Equal(path, e.Node);
    }

    [SkippableTheory]
    [InlineData("gzip")]
    [InlineData("bzip2")]
    public async Task Zeroes_are_holes_of_the_disk(string driver)
    {
        using var dir = new TempDir();
        byte[] content = new byte[40 << 20];
        TestPattern.Fill(content.AsSpan(20 << 20, 100_000), 0, 1);
        string path = dir.Write("sparse", PackedFiles.Make(driver, content));
        await using Graph graph = await PackedFiles.OpenAsync(path, driver);
        long zeroes = 0;
        for (long at = 0; at < content.Length;)
        {
            BlockExtent extent = await graph.Root.MapAsync(at, content.Length - at);
            zeroes += extent.IsZero ? extent.Length : 0;
            at += extent.Length;
        }

        // Both pack runs so well that a block holds megabytes of them: only long ones become holes.
        Assert.True(driver == "bzip2" || zeroes > 8 << 20, $"{zeroes} bytes of holes");
        await PackedFiles.AssertReadsAsync(graph, content, 2);
    }

    [SkippableFact]
    public async Task Many_tiny_units_stop_at_the_limit_of_the_index()
    {
        using var dir = new TempDir();
        byte[] one = Pack.Gzip([1]);
        string path = dir.Write("bomb.gz", [.. Enumerable.Repeat(one, 2000).SelectMany(bytes => bytes)]);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await PackedFiles.OpenAsync(path, "gzip", ("index-memory", "50000")));
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
        await using Graph graph = await PackedFiles.OpenAsync(path, "gzip");
        Assert.Equal(2000, graph.Root.Length);
    }
}
