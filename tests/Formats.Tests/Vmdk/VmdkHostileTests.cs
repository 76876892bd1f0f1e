using System.Text;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>Images that lie: always a BlockException, never anything else, and not much memory.</summary>
public sealed class VmdkHostileTests
{
    private static readonly ulong[] s_extremes =
    [
        0, 1, 2, 7, 8, 20, 127, 128, 511, 512, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
        0x1_0000_0000, 1UL << 53, (1UL << 54) - 1, 1UL << 54, long.MaxValue, 1UL << 63, ulong.MaxValue - 1, ulong.MaxValue,
    ];

    /// <summary>Offset and size of each field of the header.</summary>
    private static readonly (int Offset, int Size)[] s_fields =
    [
        (0, 4), (4, 4), (8, 4), (12, 8), (20, 8), (28, 8), (36, 8), (44, 4), (48, 8), (56, 8), (64, 8), (72, 1), (73, 1),
        (74, 1), (75, 1), (76, 1), (77, 2),
    ];

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task Header_field_at_any_extreme_never_does_more_than_fail(bool stream, bool writable)
    {
        var hand = new VmdkByHand { Content = VmdkImages.Content(1 << 20, 1), Version = stream ? 3u : 1u };
        byte[] good = stream ? hand.BuildStream() : hand.Build();
        int[] headers = stream ? [0, good.Length - 1024] : [0];
        long before = GC.GetTotalAllocatedBytes();
        int tried = 0;
        foreach (int header in headers)
        {
            foreach ((int offset, int size) in s_fields)
            {
                foreach (ulong value in s_extremes)
                {
                    byte[] bad = [.. good];
                    BitConverter.GetBytes(value).AsSpan(0, size).CopyTo(bad.AsSpan(header + offset));
                    await UseAsync(bad, writable, $"field at {header + offset}, value 0x{value:x}");
                    tried++;
                }
            }
        }

        Assert.InRange((GC.GetTotalAllocatedBytes() - before) / tried, 0, 32L << 20);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task File_cut_at_any_structure_is_an_error_and_never_wrong_data(bool stream)
    {
        byte[] content = VmdkImages.Content(1 << 20, 2);
        var hand = new VmdkByHand { Content = content, Version = stream ? 3u : 1u };
        byte[] good = stream ? hand.BuildStream() : hand.Build();
        var lengths = new SortedSet<int> { 0, 1, 3, 4, 78, 79, 80, 511, good.Length - 1 };
        for (int at = 512; at < good.Length; at += at < 40_000 ? 512 : 7 * 512)
        {
            lengths.UnionWith([at - 1, at, at + 1]);
        }

        foreach (int length in lengths)
        {
            try
            {
                await using Graph graph = await OpenAsync(good[..length], TestGraph.ReadOnly);
                byte[] all = await VmdkImages.ReadAllAsync(graph.Root);
                TestPattern.AssertEqual(content, all, 0, $"cut at {length}");

                // The end of a stream is needed to open it; of a sparse extent, nothing but slack may be missing.
                Assert.False(stream, $"cut at {length}");
                Assert.InRange(length, hand.DirectoryOffset, good.Length);
            }
            catch (BlockException e)
            {
                Assert.Contains(e.Kind, new[] { BlockErrorKind.InvalidData, BlockErrorKind.NotSupported });
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Random_damage_gives_bytes_or_a_block_exception(bool stream)
    {
        const int Seed = 77;
        var hand = new VmdkByHand { Content = VmdkImages.Content(1 << 20, 3), Version = stream ? 3u : 1u };
        byte[] good = stream ? hand.BuildStream() : hand.Build();
        int metadata = stream ? good.Length : 64 << 10;
        var random = new Random(Seed);
        for (int round = 0; round < 150; round++)
        {
            byte[] bad = [.. good];
            for (int i = random.Next(1, 8); i > 0; i--)
            {
                bad[random.Next(4) == 0 ? random.Next(2048) : random.Next(metadata)] = (byte)random.Next(256);
            }

            await UseAsync(bad, writable: random.Next(2) == 0, $"seed {Seed}, round {round}");
        }
    }

    /// <summary>Text after the first line, the kind of refusal, and what message or hint has to say.</summary>
    public static TheoryData<string, BlockErrorKind, string> BadDescriptors()
    {
        const BlockErrorKind Bad = BlockErrorKind.InvalidData;
        const BlockErrorKind Denied = BlockErrorKind.PermissionDenied;
        const string Start = "version=1\nCID=1\n";
        const string Size = "the size of an extent";
        const string Allow = "--allow-external";
        return new()
        {
            { "", Bad, "disk.vmdk" }, // No descriptor, so it can only be an extent, and is none.
            { "version=1\n", Bad, "no CID" },
            { "version=9\nCID=1\n", BlockErrorKind.NotSupported, "version '9'" },
            { "version=1\nCID=zzz\n", Bad, "8 hex digits" },
            { "version=1\nCID=123456789\n", Bad, "8 hex digits" },
            { Start + "RW 0 ZERO\n", Bad, Size },
            { Start + "RW -1 ZERO\n", Bad, Size },
            { Start + "RW 99999999999999999999 ZERO\n", Bad, Size },
            { Start + "RW 36028797018963967 ZERO\n", Bad, Size },
            { Start + "WR 1 ZERO\n", Bad, "RDONLY" },
            { Start + "RW 1 NOTHING \"x\"\n", Bad, "VMFSSPARSE" },
            { Start + "RW 1 FLAT\n", Bad, "double quotes" },
            { Start + "RW 1 FLAT \"\"\n", Bad, "double quotes" },
            { Start + "RW 1 FLAT \"x\n", Bad, "double quotes" },
            { Start + "RW 1 FLAT \"x\" -5\n", Bad, "offset" },
            { Start + "RW 1 FLAT \"x\" 36028797018963968\n", Bad, "offset" },
            { Start + "RW 18014398509481983 ZERO\nRW 1 ZERO\n", Bad, "larger than any disk" },
            { Start + "RW 1 FLAT \"/etc/passwd\" 0\n", Denied, Allow },
            { Start + "RW 1 FLAT \"../../../../etc/passwd\" 0\n", Denied, Allow },
            { Start + "RW 1 FLAT \"http://example.invalid/x\" 0\n", Denied, Allow },
            { Start + "RW 1 FLAT \"x\" 0\n", BlockErrorKind.NotFound, "extents.0.file.filename=" },
            { Start + "RW 1 FLAT \"disk.vmdk\" 0\n", Bad, "itself" },
            { Start + "RW 1 SPARSE \"disk.vmdk\"\n", Bad, "itself" },
            { Start + "RW 1 VMFSRDM \"x\"\n", BlockErrorKind.NotSupported, "VMFSRDM" },
            { Start + "RW 1 SESPARSE \"x\"\n", BlockErrorKind.NotFound, "extents.0.file.filename=" },
            { Start + "RW 1 FLAT \"short.bin\" 0\n", Bad, "short.bin" },
            { Start + "RW 1 SPARSE \"short.bin\"\n", Bad, "short.bin" },
            { Start + "RW 1 FLAT \"short.bin\" 1\nRW 1 SPARSE \"short.bin\"\n", Bad, "short.bin" },
            { Start + "parentCID=5\nRW 1 ZERO\n", BlockErrorKind.InvalidArgument, "backing.file.filename=" },
            { Start + "parentCID=5\nparentFileNameHint=\"disk.vmdk\"\nRW 1 ZERO\n", Bad, "itself" },
            { Start + "parentCID=5\nparentFileNameHint=\"x\"\nRW 1 ZERO\n", BlockErrorKind.NotFound, "backing=" },
            { Start + "parentCID=5\nparentFileNameHint=\"/dev/zero\"\nRW 1 ZERO\n", Denied, Allow },
            {
                "version=1\nencoding=\"no-such\"\nCID=1\nRW 1 FLAT \"\u00fc\"\n", BlockErrorKind.NotSupported,
                "'no-such'"
            },
            { Start + new string('#', 20) + "\nRW\n", Bad, Size },
        };
    }

    [SkippableTheory]
    [MemberData(nameof(BadDescriptors))]
    public async Task Bad_descriptor_is_refused(string text, BlockErrorKind kind, string said)
    {
        using var dir = new TempDir();
        dir.Write("short.bin", new byte[100]);
        string path = dir.Write("disk.vmdk", Encoding.UTF8.GetBytes("# Disk DescriptorFile\n" + text));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () =>
        {
            await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=vmdk,file.filename={path}");
        });
        Assert.True(e.Kind == kind, $"{e.Kind}: {e.Describe()}");
        Assert.Contains(said, $"{e.Describe()} {e.Hint}", StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Descriptor_beyond_the_limits_is_refused_without_reading_it_all()
    {
        using var dir = new TempDir();
        string start = "# Disk DescriptorFile\nversion=1\nCID=1\n";
        string many = start + string.Concat(Enumerable.Repeat("RW 1 ZERO\n", 5000));
        string longLine = start + "ddb.x = \"" + new string('x', 10_000) + "\"\n";
        string longText = start + new string('\n', 2 << 20);
        foreach (string text in new[] { many, longLine, longText })
        {
            string path = dir.Write("disk.vmdk", Encoding.UTF8.GetBytes(text));
            var e = await Assert.ThrowsAsync<BlockException>(
                async () => await TestGraph.OpenOptionsAsync($"driver=vmdk,file.filename={path}"));
            Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
        }
    }

    [SkippableFact]
    public async Task Corpus_image_of_version_3_opens_for_reading_only()
    {
        using var dir = new TempDir();
        string path = Corpus(dir, "iotest-version3.vmdk");
        await using (Graph graph = await TestGraph.OpenAsync(path))
        {
            Assert.Equal(17179869184, graph.Root.Length);
            await VmdkImages.AssertCleanAsync(graph);
            string raw = dir.File("peer.raw");
            Qemu.Img("convert", "-f", "vmdk", "-O", "raw", path, raw);
            using Microsoft.Win32.SafeHandles.SafeFileHandle peer = File.OpenHandle(raw);
            byte[] ours = new byte[1 << 20];
            byte[] theirs = new byte[1 << 20];
            for (long at = 0; at < graph.Root.Length;)
            {
                BlockExtent extent = await graph.Root.MapAsync(at, graph.Root.Length - at);
                for (long in_ = at; !extent.IsZero && in_ < at + extent.Length; in_ += ours.Length)
                {
                    int count = (int)Math.Min(ours.Length, at + extent.Length - in_);
                    await graph.Root.ReadAsync(in_, ours.AsMemory(0, count));
                    RandomAccess.Read(peer, theirs.AsSpan(0, count), in_);
                    TestPattern.AssertEqual(theirs.AsSpan(0, count), ours.AsSpan(0, count), in_, "version 3");
                }

                at += extent.Length;
            }
        }

        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(path, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }

    [SkippableFact]
    public async Task Corpus_image_that_a_fuzzer_made_is_refused()
    {
        using var dir = new TempDir();
        string path = Corpus(dir, "afl9.vmdk");
        await Assert.ThrowsAsync<BlockException>(async () =>
        {
            await using Graph graph = await TestGraph.OpenAsync(path);
            await graph.Root.ReadAsync(0, new byte[512]);
        });
    }

    /// <summary>Unpacks an image of the corpus, or skips.</summary>
    internal static string Corpus(TempDir dir, string name)
    {
        string? folder = Environment.GetEnvironmentVariable("IMAGEMOUNT_CORPUS");
        for (string? at = AppContext.BaseDirectory; folder is null && at is not null; at = Path.GetDirectoryName(at))
        {
            if (File.Exists(Path.Combine(at, "ImageMount.sln")))
            {
                folder = Path.Combine(at, "../shared/corpus");
            }
        }

        string packed = Path.Combine(folder ?? ".", name + ".bz2");
        Skip.IfNot(File.Exists(packed), $"no {packed} (IMAGEMOUNT_CORPUS says where the corpus is)");
        Require.Tool("bzip2");
        Qemu.Succeed("sh", "-c", "bzip2 -dc \"$0\" > \"$1\"", packed, dir.File(name));
        return dir.File(name);
    }

    private static async Task UseAsync(byte[] image, bool writable, string context)
    {
        try
        {
            await using Graph graph = await OpenAsync(image, writable ? TestGraph.Writable : TestGraph.ReadOnly);
            long length = Math.Min(graph.Root.Length, 8 << 20);
            var buffer = new byte[64 << 10];
            for (long at = 0; at < length; at += buffer.Length)
            {
                int count = (int)Math.Min(buffer.Length, length - at);
                await TryAsync(graph.Root.ReadAsync(at, buffer.AsMemory(0, count)));
                if (writable && graph.Root.CanWrite)
                {
                    await TryAsync(graph.Root.WriteAsync(at, buffer.AsMemory(0, count)));
                }
            }

            for (long at = 0; at < length;)
            {
                at += (await graph.Root.MapAsync(at, graph.Root.Length - at)).Length;
            }

            await VmdkImages.CheckAsync(graph);
        }
        catch (BlockException)
        {
            // What is hoped for.
        }
        catch (Exception e)
        {
            Assert.Fail($"{context}: {e}");
        }
    }

    private static async ValueTask TryAsync(ValueTask task)
    {
        try
        {
            await task;
        }
        catch (BlockException)
        {
            // The next one may work.
        }
    }

    private static ValueTask<Graph> OpenAsync(byte[] image, OpenFlags flags) =>
        TestGraph.Opener.OpenOverAsync("vmdk", new BlockNode("image", "test", new MemoryDevice(image)), flags);
}
