using System.IO.Compression;
using ImageMount.Core.Options;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>
/// streamOptimized as we write it: the bytes come back here, in qemu and in libvmdk, and every structure stands where
/// VMware's own programs put it and its importers look for it.
/// </summary>
public sealed class VmdkStreamTests
{
    private const int Grain = VmdkImages.Grain;
    private static readonly ImageMaker s_maker = new(TestGraph.Registry);

    public static TheoryData<string, int> Sources() => new()
    {
        { "mixed", 9 << 20 },
        { "mixed", (34 << 20) + (5 * 512) },
        { "mixed", 1000 },
        { "random", 3 << 20 },
        { "zero", 40 << 20 },
        { "ends", 66 << 20 },
        { "holes", 66 << 20 },
    };

    [SkippableTheory]
    [MemberData(nameof(Sources))]
    public async Task Stream_reads_the_same_here_in_qemu_and_in_libvmdk_and_is_built_as_vmwares(string kind, int length)
    {
        using var dir = new TempDir();
        byte[] content = MakeContent(kind, length);
        string path = await ConvertAsync(dir, content);
        byte[] whole = [.. content, .. new byte[-length & (Grain - 1)]];
        AssertStructure(File.ReadAllBytes(path), whole);
        Assert.True(whole.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), "qemu-img differs");
        Qemu.Img("check", "-f", "vmdk", path);
        await using Graph graph = await TestGraph.OpenAsync(path);
        byte[] found = await VmdkImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(whole, found, 0, kind);
        await VmdkImages.AssertMapAsync(graph.Root, whole, kind);
        await VmdkImages.AssertCleanAsync(graph);
        Require.Tool("vmdkinfo");
        string info = Qemu.Succeed("vmdkinfo", path);
        Assert.Contains("Stream optimized", info, StringComparison.Ordinal);
        Assert.Contains($"{whole.Length} bytes", info, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Stream_of_vmware_is_rewritten_with_the_same_structure()
    {
        using var dir = new TempDir();
        string original = VmdkHostileTests.Corpus(dir, "iotest-version3.vmdk");
        string ours = dir.File("ours.vmdk");
        await using (Graph source = await TestGraph.OpenAsync(original))
        {
            await s_maker.CreateFromAsync(
                "vmdk", ours, OptionSyntax.ParsePairs("subformat=streamOptimized"), source.Root, new CreateRequest());
            await using Graph copy = await TestGraph.OpenAsync(ours);
            Assert.Equal(source.Root.Length, copy.Root.Length);
            var left = new byte[1 << 20];
            var right = new byte[1 << 20];
            for (long at = 0; at < source.Root.Length;)
            {
                BlockExtent extent = await source.Root.MapAsync(at, source.Root.Length - at);
                for (long i = at; !extent.IsZero && i < at + extent.Length; i += left.Length)
                {
                    int count = (int)Math.Min(left.Length, at + extent.Length - i);
                    await source.Root.ReadAsync(i, left.AsMemory(0, count));
                    await copy.Root.ReadAsync(i, right.AsMemory(0, count));
                    TestPattern.AssertEqual(left.AsSpan(0, count), right.AsSpan(0, count), i, "copy");
                }

                at += extent.Length;
            }
        }

        // Fields of the header, as VMware fills them; only the room for the descriptor is ours.
        byte[] theirs = File.ReadAllBytes(original)[..512];
        byte[] mine = File.ReadAllBytes(ours)[..512];
        theirs[36] = mine[36];
        Assert.Equal(theirs, mine);
        Assert.Equal(Markers(File.ReadAllBytes(original)).Where(m => m.Type != 1), Markers(File.ReadAllBytes(ours)).Where(m => m.Type != 1));
    }

    [SkippableTheory]
    [InlineData("subformat=streamOptimized,backing_file=parent.vmdk")]
    [InlineData("subformat=streamOptimized,zeroed_grain=on")]
    [InlineData("subformat=streamOptimized,size=512")]
    [InlineData("subformat=monolithicSparse")]
    public async Task What_a_stream_cannot_be_is_refused_and_leaves_no_file(string options)
    {
        using var dir = new TempDir();
        var source = new BlockNode("source", "test", new MemoryDevice(new byte[1 << 20]));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await s_maker.CreateFromAsync(
            "vmdk", dir.File("x.vmdk"), OptionSyntax.ParsePairs(options), source, new CreateRequest()));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.Empty(Directory.GetFiles(dir.Path));
    }

    [SkippableFact]
    public async Task Source_that_fails_in_the_middle_leaves_no_file_and_its_error()
    {
        using var dir = new TempDir();
        var device = new MemoryDevice(TestPattern.Make(24 << 20, 0, 1))
        {
            Before = request => request.Operation == TestOperation.Read && request.Offset > 20 << 20
                ? throw new BlockException(BlockErrorKind.IoError, "a bad place") : default,
        };
        var e = await Assert.ThrowsAsync<BlockException>(async () => await s_maker.CreateFromAsync(
            "vmdk", dir.File("x.vmdk"), OptionSyntax.ParsePairs("subformat=streamOptimized"),
            new BlockNode("source", "test", device), new CreateRequest()));
        Assert.Contains("a bad place", e.Describe(), StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(dir.Path));
    }

    [SkippableFact]
    public async Task Header_comes_last_so_that_half_a_stream_is_no_disk()
    {
        byte[] content = TestPattern.Make(5 << 20, 0, 2);
        using var dir = new TempDir();
        string path = await ConvertAsync(dir, content);
        byte[] image = File.ReadAllBytes(path);
        for (int cut = 512; cut < image.Length; cut += 77_777)
        {
            var node = new BlockNode("cut", "test", new MemoryDevice(image[..cut]));
            await Assert.ThrowsAsync<BlockException>(
                async () => await TestGraph.Opener.OpenOverAsync("vmdk", node, TestGraph.ReadOnly));
        }
    }

    private static byte[] MakeContent(string kind, int length)
    {
        var content = new byte[length];
        switch (kind)
        {
            case "mixed":
                return VmdkImages.Content(length, 5);
            case "random":
                new Random(6).NextBytes(content); // Does not shrink: stored blocks, more bytes than the grain.
                break;
            case "ends":
                TestPattern.Make(1, 0, 7).CopyTo(content, 0);
                TestPattern.Make(1, 0, 8).CopyTo(content, length - 1);
                break;
            case "holes":
                // Tables without grains between tables with some; grains at both ends of a table.
                foreach (int at in new[] { 0, (32 << 20) - 1, 64 << 20 })
                {
                    content[at] = 9;
                }

                content.AsSpan(20 << 20, 33).Fill(1);
                break;
        }

        return content;
    }

    private static async Task<string> ConvertAsync(TempDir dir, byte[] content)
    {
        string raw = dir.Write("source.raw", content);
        string path = dir.File("stream.vmdk");
        await using Graph source = await TestGraph.OpenOptionsAsync($"driver=raw,file.filename={raw}");
        await s_maker.CreateFromAsync(
            "vmdk", path, OptionSyntax.ParsePairs("subformat=streamOptimized,adapter_type=lsilogic"), source.Root,
            new CreateRequest());
        return path;
    }

    /// <summary>Walks the stream as a reader does that cannot seek.</summary>
    private static void AssertStructure(byte[] file, byte[] content)
    {
        Assert.Equal(0, file.Length % 512);
        Assert.Equal(content.Length / 512, BitConverter.ToInt64(file, 12));
        Assert.Equal(0, BitConverter.ToInt64(file, 12) % 128);
        Assert.Equal(-1, BitConverter.ToInt64(file, 56));
        var tables = new Dictionary<long, uint>();
        var pending = new Dictionary<long, uint>();
        long lastGrain = -1;
        var order = new List<uint>();
        int directory = 0;
        int at = 128 * 512;
        while (true)
        {
            long value = BitConverter.ToInt64(file, at);
            int size = BitConverter.ToInt32(file, at + 8);
            if (size != 0)
            {
                long grain = value / 128;
                Assert.True(grain > lastGrain, "grains go up");
                lastGrain = grain;
                using var zlib = new ZLibStream(new MemoryStream(file, at + 12, size), CompressionMode.Decompress);
                var bytes = new byte[Grain];
                zlib.ReadExactly(bytes);
                Assert.Equal(-1, zlib.ReadByte());
                Assert.True(bytes.AsSpan().SequenceEqual(content.AsSpan((int)grain * Grain, Grain)), $"grain {grain}");
                Assert.True(bytes.AsSpan().ContainsAnyExcept((byte)0), "a grain of zeroes is stored");
                pending.Add(grain % 512, (uint)(at / 512));
                at += (12 + size + 511) / 512 * 512;
                continue;
            }

            uint type = BitConverter.ToUInt32(file, at + 12);
            order.Add(type);
            Assert.True(file.AsSpan(at + 16, 496).IndexOfAnyExcept((byte)0) < 0, "a marker is padded with zeroes");
            at += 512;
            if (type == 0)
            {
                break;
            }

            if (type == 1)
            {
                Assert.Equal(4, value);
                for (int i = 0; i < 512; i++)
                {
                    Assert.Equal(pending.GetValueOrDefault(i), BitConverter.ToUInt32(file, at + (4 * i)));
                }

                pending.Clear();
                tables.Add(lastGrain / 512, (uint)(at / 512));
            }
            else if (type == 2)
            {
                directory = at;
                for (int i = 0; i < value * 128; i++)
                {
                    Assert.Equal(tables.GetValueOrDefault(i), BitConverter.ToUInt32(file, at + (4 * i)));
                }
            }
            else
            {
                Assert.Equal(1, value);
                byte[] footer = file[at..(at + 512)];
                Assert.Equal(directory / 512, BitConverter.ToInt64(footer, 56));
                BitConverter.GetBytes(-1L).CopyTo(footer, 56);
                Assert.Equal(file[..512], footer);
            }

            at += (int)value * 512;
        }

        Assert.Equal(file.Length, at);
        Assert.Empty(pending);
        Assert.Equal([2u, 3u, 0u], order.TakeLast(3));
        Assert.All(order.SkipLast(3), type => Assert.Equal(1u, type));
        for (int grain = 0; grain < content.Length / Grain; grain++)
        {
            bool stored = tables.TryGetValue(grain / 512, out uint table)
                && BitConverter.ToUInt32(file, ((int)table * 512) + (grain % 512 * 4)) != 0;
            Assert.Equal(content.AsSpan(grain * Grain, Grain).ContainsAnyExcept((byte)0), stored);
        }
    }

    /// <summary>The metadata markers of a stream, without their places.</summary>
    private static List<(long Value, uint Type)> Markers(byte[] file)
    {
        var markers = new List<(long, uint)>();
        for (int at = 128 * 512; at < file.Length;)
        {
            long value = BitConverter.ToInt64(file, at);
            int size = BitConverter.ToInt32(file, at + 8);
            if (size == 0)
            {
                markers.Add((value, BitConverter.ToUInt32(file, at + 12)));
            }

            at += size != 0 ? (12 + size + 511) / 512 * 512 : 512 + ((int)value * 512);
        }

        return markers;
    }
}
