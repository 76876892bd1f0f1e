using System.Buffers.Binary;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Formats.Tests.Dmg;

/// <summary>
/// UDIF images made by hand: every kind of run beside every other, forks, segments, gaps, and what is refused.
/// </summary>
public sealed class DmgTests
{
    private const int Seed = 1717;

    /// <summary>Data, zeroes of whole units and inside them, at an odd length.</summary>
    private static byte[] Content(int sectors, int seed)
    {
        byte[] content = TestPattern.Make(sectors * 512, 0, seed);
        var random = new Random(seed);
        for (int at = 0; at < content.Length;)
        {
            int count = Math.Min(content.Length - at, random.Next(1, 160) * 512);
            switch (random.Next(4))
            {
                case 0:
                    content.AsSpan(at, count).Clear();
                    break;
                case 1:
                    content.AsSpan(at, count / 2).Fill((byte)random.Next(256));
                    break;
                default:
                    break;
            }

            at += count;
        }

        return content;
    }

    private static ValueTask<Graph> OpenAsync(byte[] image) =>
        TestGraph.Opener.OpenOverAsync("dmg", Node(image), TestGraph.ReadOnly);

    private static BlockNode Node(byte[] image) => new("test.dmg", "memory", new MemoryDevice(image));

    private static async Task<BlockException> RefusedAsync(byte[] image, BlockErrorKind kind, string word)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () =>
        {
            await using Graph graph = await OpenAsync(image);
        });
        Assert.True(e.Kind == kind && e.Describe().Contains(word, StringComparison.Ordinal), e.Describe());
        return e;
    }

    [Theory]
    [InlineData(3, false, 77, 13)]
    [InlineData(1, true, 0, 0)]
    [InlineData(9, false, 512, 4096)]
    [InlineData(5, true, 13, 100)]
    public async Task Image_with_every_kind_of_run_reads_as_written(
        int partitions, bool resourceFork, int junk, int tableOffset)
    {
        byte[] content = Content(2345, Seed);
        byte[] image = new DmgWriter
        {
            Seed = Seed,
            Partitions = partitions,
            HasResourceFork = resourceFork,
            Junk = junk,
            TableOffset = tableOffset,
        }.Build(content);
        await using Graph graph = await OpenAsync(image);
        await DiskReads.AssertAsync(graph.Root, content, $"seed {Seed}");
        await DiskReads.AssertCleanAsync(graph, $"seed {Seed}");
        Assert.Empty(graph.Warnings);
        DeviceInfo info = await graph.Root.DescribeAsync();
        var named = (List<object>)info.FormatSpecific.Single(fact => fact.Key == "partitions").Value;
        Assert.Equal(partitions, named.Count);
        Assert.Contains(
            info.FormatSpecific,
            fact => fact.Key == "master-checksum" && fact.Value is string text && text.StartsWith("crc32:", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(DmgUnit.Raw)]
    [InlineData(DmgUnit.Adc)]
    [InlineData(DmgUnit.Zlib)]
    [InlineData(DmgUnit.Bzip2)]
    [InlineData(DmgUnit.Lzfse)]
    [InlineData(DmgUnit.Lzma)]
    public async Task Image_of_one_kind_of_run_in_units_of_a_megabyte_reads_as_written(DmgUnit unit)
    {
        byte[] content = Content(6001, Seed + 1);
        byte[] image = new DmgWriter { Units = [unit], UnitSectors = [2048, 512], Partitions = 1 }.Build(content);
        await using Graph graph = await OpenAsync(image);
        await DiskReads.AssertAsync(graph.Root, content, unit.ToString());
        await DiskReads.AssertCleanAsync(graph, unit.ToString());
    }

    [Fact]
    public async Task Segments_are_one_image_even_where_units_are_cut()
    {
        using var dir = new TempDir();
        byte[] content = Content(3000, Seed);
        List<byte[]> files = new DmgWriter { Seed = Seed, Segments = 7 }.BuildSegments(content);
        for (int i = 1; i < files.Count; i++)
        {
            dir.Write($"big.{i + 1:000}.dmgpart", files[i]);
        }

        string first = dir.Write("big.dmg", files[0]);
        await using (Graph graph = await TestGraph.OpenAsync(first))
        {
            Assert.Equal("dmg", graph.Root.Driver);
            await DiskReads.AssertAsync(graph.Root, content, "segments");
            await DiskReads.AssertCleanAsync(graph, "segments");
            Assert.Equal(7, graph.Root.Children.Count);
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(dir.File("big.003.dmgpart")));
        Assert.Contains("segment 3 of 7", e.Describe(), StringComparison.Ordinal);
        File.Copy(dir.File("big.004.dmgpart"), dir.File("moved"));
        File.Delete(dir.File("big.004.dmgpart"));
        e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(first));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        await using (Graph moved = await TestGraph.OpenOptionsAsync(
            $"driver=dmg,file.filename={first},segments.4.file.filename={dir.File("moved")}"))
        {
            await DiskReads.AssertCleanAsync(moved, "a segment that was moved");
        }

        File.Copy(dir.File("big.005.dmgpart"), dir.File("big.004.dmgpart"));
        e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(first));
        Assert.Contains("not the segment", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sectors_in_no_run_read_as_zeroes_with_a_warning()
    {
        byte[] content = Content(900, Seed);
        byte[] image = new DmgWriter { Gap = (250, 300) }.Build(content);
        content.AsSpan(250 * 512, 300 * 512).Clear();
        await using Graph graph = await OpenAsync(image);
        Assert.Contains("no block run", Assert.Single(graph.Warnings), StringComparison.Ordinal);
        await DiskReads.AssertAsync(graph.Root, content, "gap");
        Assert.InRange((await DiskReads.CheckAsync(graph)).Corruptions, 1, 4);
    }

    [Fact]
    public async Task Damage_that_decodes_is_found_by_the_check()
    {
        byte[] content = Content(500, Seed);
        byte[] image = new DmgWriter { Units = [DmgUnit.Raw], Partitions = 2 }.Build(content);
        image[77 + 30_000] ^= 1;
        await using Graph graph = await OpenAsync(image);
        CheckReport report = await DiskReads.CheckAsync(graph);
        Assert.Equal(2, report.Corruptions); // The data fork and one of the tables.
        Assert.All(report.Problems, problem => Assert.Contains("checksum", problem, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(4u, true, true, true)] // All of them.
    [InlineData(6u, false, true, false)]
    [InlineData(1u, true, false, false)]
    [InlineData(0u, true, true, true)] // None at all is nothing to tell.
    public async Task Checksum_of_another_type_is_noted_and_not_taken_for_damage(
        uint type, bool ofFork, bool ofTables, bool ofAll)
    {
        byte[] image = new DmgWriter
        {
            Partitions = 2,
            Edit = table =>
            {
                if (ofTables)
                {
                    SetType(table.AsSpan(64), type);
                }
            },
        }.Build(Content(300, Seed));
        if (ofFork)
        {
            SetType(image.AsSpan(image.Length - 512 + 80), type);
        }

        if (ofAll)
        {
            SetType(image.AsSpan(image.Length - 512 + 352), type);
        }

        await using Graph graph = await OpenAsync(image);
        CheckReport report = await DiskReads.CheckAsync(graph);
        Assert.Equal((0L, 0L, 0L), (report.Corruptions, report.Leaks, report.CheckErrors));
        int expected = type == 0 ? 0 : (ofFork ? 1 : 0) + (ofTables ? 2 : 0) + (ofAll || ofTables ? 1 : 0);
        Assert.Equal(expected, report.Notes.Count);
        Assert.All(report.Notes, note => Assert.Contains("not verified", note, StringComparison.Ordinal));
    }

    /// <summary>A checksum of a type that is not CRC-32, 128 bits of something.</summary>
    private static void SetType(Span<byte> checksum, uint type)
    {
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(checksum, type);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(checksum[4..], 128);
        checksum.Slice(8, 16).Fill(0xa5);
    }

    [Fact]
    public async Task Damaged_unit_fails_alone_and_is_named_by_the_check()
    {
        byte[] content = Content(600, Seed);
        content.AsSpan().Fill(3);
        TestPattern.Fill(content.AsSpan(512 * 300, 4096), 0, 1);
        byte[] image = new DmgWriter
        {
            Units = [DmgUnit.Zlib],
            UnitSectors = [100],
            Partitions = 1,
            Edit = table => BinaryPrimitives.WriteInt64BigEndian(
                table.AsSpan(204 + 24), BinaryPrimitives.ReadInt64BigEndian(table.AsSpan(204 + 24)) + 1),
        }.Build(content);
        await using Graph graph = await OpenAsync(image);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(512, new byte[10]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        await graph.Root.ReadAsync(512 * 100, new byte[512 * 500]);
        Assert.Contains(
            (await DiskReads.CheckAsync(graph)).Problems,
            problem => problem.Contains("cannot be read", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Image_without_a_trailer_is_refused_with_advice_and_opens_as_raw()
    {
        byte[] plain = Content(100, Seed);
        await RefusedAsync(plain, BlockErrorKind.InvalidData, "driver=raw");
        await RefusedAsync([1, 2, 3], BlockErrorKind.InvalidData, "driver=raw");
        plain[0] = (byte)'k';
        plain[1] = (byte)'o';
        plain[2] = (byte)'l';
        plain[3] = (byte)'y';
        await RefusedAsync(plain, BlockErrorKind.InvalidData, "beginning");
        await RefusedAsync([.. "encrcdsa"u8, .. plain], BlockErrorKind.LimitExceeded, "keys"); // seen through, and damaged
        await using Graph raw = await TestGraph.Opener.OpenOverAsync(null, Node(plain), TestGraph.ReadOnly);
        Assert.Equal("raw", raw.Root.Driver);
    }

    [Fact]
    public async Task Writing_is_refused_with_advice()
    {
        byte[] image = new DmgWriter().Build(Content(100, Seed));
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.Opener.OpenOverAsync("dmg", Node(image), TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        Assert.Contains("--snapshot", e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("overlap", BlockErrorKind.InvalidData, "same sectors")]
    [InlineData("outside", BlockErrorKind.InvalidData, "outside the file")]
    [InlineData("kind", BlockErrorKind.NotSupported, "0x80000009")]
    [InlineData("large", BlockErrorKind.LimitExceeded, "too large")]
    [InlineData("count", BlockErrorKind.InvalidData, "cut off")]
    [InlineData("sector", BlockErrorKind.InvalidData, "outside any disk")]
    [InlineData("end", BlockErrorKind.InvalidData, "end mark")]
    [InlineData("magic", BlockErrorKind.InvalidData, "mish")]
    [InlineData("version", BlockErrorKind.NotSupported, "version 2")]
    [InlineData("raw", BlockErrorKind.InvalidData, "raw run")]
    public async Task Impossible_table_is_refused(string what, BlockErrorKind kind, string word)
    {
        void Edit(byte[] table)
        {
            (int at, long value, int size) = what switch
            {
                "overlap" => (204 + 8, 1L, 8),
                "outside" => (204 + 24, 1L << 40, 8),
                "kind" => (204, 0x80000009L, 4),
                "large" => (204 + 40 + 16, 1L << 20, 8),
                "count" => (200, 0x7fffffffL, 4),
                "sector" => (204 + 8, long.MaxValue, 8),
                "end" => (204, 0xffffffffL, 4),
                "magic" => (0, 0L, 4),
                "version" => (4, 2L, 4),
                _ => (204 + 32, 511L, 8),
            };
            if (size == 4)
            {
                BinaryPrimitives.WriteUInt32BigEndian(table.AsSpan(at), (uint)value);
            }
            else
            {
                BinaryPrimitives.WriteInt64BigEndian(table.AsSpan(at), value);
            }
        }

        byte[] content = TestPattern.Make(200 * 512, 0, Seed); // No run of zeroes.
        byte[] image = new DmgWriter { Units = [DmgUnit.Raw, DmgUnit.Zlib], Edit = Edit, Partitions = 1 }.Build(content);
        await RefusedAsync(image, kind, word);
    }

    [Theory]
    [InlineData("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array/></dict></dict></plist>", "empty")]
    [InlineData("<plist><dict><key>resource-fork</key><dict></dict></dict></plist>", "no block tables")]
    [InlineData("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>!!</data></dict></array></dict></dict></plist>", "damaged")]
    [InlineData("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict></dict></array></dict></dict></plist>", "no data")]
    [InlineData("<html></html>", "damaged")]
    [InlineData("<plist><dict><key>a", "damaged")]
    [InlineData("<!DOCTYPE plist [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><plist><dict><key>&b;</key></dict></plist>", "damaged")]
    [InlineData("", "no block tables")]
    public async Task Impossible_property_list_is_refused(string xml, string word)
    {
        byte[] trailer = new DmgWriter { Junk = 0 }.Build(new byte[512])[^512..];
        byte[] list = System.Text.Encoding.UTF8.GetBytes(xml);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(24), 0);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(32), 0);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(216), 0);
        BinaryPrimitives.WriteInt64BigEndian(trailer.AsSpan(224), list.Length);
        await RefusedAsync([.. list, .. trailer], BlockErrorKind.InvalidData, word);
    }

    [Fact]
    public async Task Reading_in_order_decodes_every_unit_once()
    {
        byte[] content = TestPattern.Make(8 << 20, 0, Seed);
        byte[] image = new DmgWriter { Units = [DmgUnit.Zlib], UnitSectors = [512], Partitions = 1 }.Build(content);
        await using Graph graph = await OpenAsync(image);
        long before = ImageMount.Formats.Mapped.DecodedUnitCache.Shared.Decodes;
        byte[] found = await DiskReads.AllAsync(graph.Root, 64 << 10);
        Assert.Equal(content, found);
        Assert.InRange(ImageMount.Formats.Mapped.DecodedUnitCache.Shared.Decodes - before, 32, 40);
    }
}
