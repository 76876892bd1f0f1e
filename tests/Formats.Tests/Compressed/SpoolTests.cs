using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Compressed;

/// <summary>Units that are too large for the cache of decoded units.</summary>
public sealed class SpoolTests
{
    [SkippableTheory]
    [InlineData("gzip")]
    [InlineData("xz")]
    [InlineData("bzip2")]
    [InlineData("zstd")]
    public async Task Readers_at_once_see_the_same_content(string driver)
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(900_000, 1);
        string path = dir.Write("disk", PackedFiles.Make(driver, content));
        foreach (string verify in (string[])["on", "off"])
        {
            await using Graph graph = await PackedFiles.OpenAsync(
                path, driver, ("spool-above", "4k"), ("verify", verify), ("spool-directory", dir.Path));
            await Task.WhenAll(Enumerable.Range(0, 6).Select(seed => Task.Run(
                () => PackedFiles.AssertReadsAsync(graph, content, seed))));
        }
    }

    [SkippableFact]
    public async Task Temporary_file_has_no_name_and_its_folder_is_named_when_it_is_wrong()
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(300_000, 1);
        string path = dir.Write("disk.zst", PackedFiles.Make("zstd", content));
        string folder = Directory.CreateDirectory(dir.File("spool")).FullName;
        await using (Graph graph = await PackedFiles.OpenAsync(
            path, "zstd", ("spool-above", "4k"), ("spool-directory", folder)))
        {
            await PackedFiles.AssertReadsAsync(graph, content, 2);
            Assert.Empty(Directory.EnumerateFileSystemEntries(folder));
        }

        await using Graph wrong = await PackedFiles.OpenAsync(
            path, "zstd", ("spool-above", "4k"), ("spool-directory", dir.File("missing")));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await PackedFiles.ReadAllAsync(wrong));
        Assert.Contains(dir.File("missing"), e.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Limit_that_one_unit_exceeds_is_an_error()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(900_000, 0, 1);
        string path = dir.Write("disk.zst", PackedFiles.Make("zstd", content));
        await using Graph graph = await PackedFiles.OpenAsync(
            path, "zstd", ("spool-above", "4k"), ("spool-limit", "500k"));
        for (int i = 0; i < 2; i++)
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await PackedFiles.ReadAllAsync(graph));
            Assert.Equal(BlockErrorKind.NoSpace, e.Kind);
            Assert.Contains("spool-limit", e.Hint, StringComparison.Ordinal);
        }
    }

    [SkippableTheory]
    [InlineData("on")]
    [InlineData("off")]
    public async Task Units_that_were_not_used_make_room_for_others(string verify)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(3 << 20, 0, 1);
        string path = dir.Write("disk.xz", PackedFiles.Make("xz", content));
        await using Graph graph = await PackedFiles.OpenAsync(
            path, "xz", ("spool-above", "4k"), ("spool-limit", "1M"), ("verify", verify));
        await PackedFiles.AssertReadsAsync(graph, content, 2);
        await PackedFiles.AssertReadsAsync(graph, content, 3);
    }

    [SkippableFact]
    public async Task Unit_is_shown_only_when_its_check_is_right_unless_that_is_not_wanted()
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(2 << 20, 1);
        byte[] file = Pack.Bytes(content, "xz", ".xz", "-0", "--check=crc64");
        file[^45] ^= 1; // In the check, before the index: everything decodes.
        string path = dir.Write("disk.xz", file);
        var start = new byte[1000];
        await using (Graph verified = await PackedFiles.OpenAsync(path, "xz", ("spool-above", "4k")))
        {
            for (int i = 0; i < 2; i++)
            {
                BlockException e = await Assert.ThrowsAsync<BlockException>(
                    async () => await verified.Root.ReadAsync(0, start));
                Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
            }
        }

        await using Graph shown = await PackedFiles.OpenAsync(path, "xz", ("spool-above", "4k"), ("verify", "off"));
        await shown.Root.ReadAsync(0, start);
        TestPattern.AssertEqual(content.AsSpan(0, 1000), start, 0, "the start, before the damage was seen");
        await Assert.ThrowsAsync<BlockException>(async () => await shown.Root.ReadAsync(content.Length - 1000, start));
        await Assert.ThrowsAsync<BlockException>(async () => await shown.Root.ReadAsync(0, start));
    }

    [SkippableFact]
    public async Task Reading_backwards_does_not_decode_again()
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(4 << 20, 1);
        var file = new MemoryDevice(Pack.Bytes(content, "xz", ".xz", "-0"));
        var node = new BlockNode("disk.xz", "memory", file);
        OptionMap options = OptionSyntax.ParsePairs("spool-above=4k,verify=off");
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync("xz", node, TestGraph.ReadOnly, options))
        {
            await PackedFiles.ReadAllAsync(graph);
            int reads = file.Count(TestOperation.Read);
            var piece = new byte[4096];
            for (int at = content.Length - piece.Length; at > 0; at -= 77_777)
            {
                await graph.Root.ReadAsync(at, piece);
                TestPattern.AssertEqual(content.AsSpan(at, piece.Length), piece, at, "backwards");
            }

            Assert.Equal(reads, file.Count(TestOperation.Read));
        }

        await node.CloseAsync();
    }

    [SkippableFact]
    public async Task Cancelled_read_leaves_the_decoding_where_it_was()
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(2 << 20, 1);
        using var cancel = new CancellationTokenSource();
        var file = new MemoryDevice(Pack.Bytes(content, "zstd", ".zst", "-1"));
        var node = new BlockNode("disk.zst", "memory", file);
        OptionMap options = OptionSyntax.ParsePairs("spool-above=4k");
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync("zstd", node, TestGraph.ReadOnly, options))
        {
            int reads = 0;
            file.Before = _ =>
            {
                if (++reads == 2)
                {
                    cancel.Cancel();
                }

                return default;
            };
            await Assert.ThrowsAnyAsync<OperationCanceledException>(
                async () => await graph.Root.ReadAsync(0, new byte[content.Length], cancel.Token));
            await PackedFiles.AssertReadsAsync(graph, content, 3);
        }

        await node.CloseAsync();
    }
}
