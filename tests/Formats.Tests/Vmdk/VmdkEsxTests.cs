using System.Buffers.Binary;
using System.Text;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>Extents of ESX: COWD read, written and cut off at every change; SESPARSE read; both beside qemu-img.</summary>
public sealed class VmdkEsxTests
{
    private const int Odd = (5 << 20) + (7 * 512);

    [SkippableTheory]
    [InlineData(512, 1)]
    [InlineData(4096, 2)]
    [InlineData(64 << 10, 3)]
    public async Task Cowd_reads_as_made_and_as_qemu_reads_it(int grain, int seed)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(Odd, seed);
        string path = EsxImages.WriteCowd(dir, "esx", content, seed, grain);
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), "qemu-img reads it otherwise");
        await using (Graph graph = await TestGraph.OpenAsync(path))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, $"grain {grain}, seed {seed}");
            await VmdkImages.AssertCleanAsync(graph);
            DeviceInfo info = await graph.Root.DescribeAsync();
            Assert.Equal(grain, info.ClusterSize);
        }

        await using Graph alone = await TestGraph.OpenAsync(dir.File("esx-delta.vmdk"));
        Assert.Contains(alone.Warnings, warning => warning.Contains("descriptor", StringComparison.Ordinal));
        await VmdkImages.AssertReadsAsync(alone.Root, content, "alone");
    }

    [SkippableTheory]
    [InlineData(512)]
    [InlineData(8 << 10)]
    public async Task Cowd_written_by_us_reads_the_same_in_qemu_and_keeps_its_header(int grain)
    {
        const int Seed = 6;
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(Odd, Seed);
        content.AsSpan(1 << 20, 3 << 20).Clear(); // A table of its own for the writer to make.
        string path = EsxImages.WriteCowd(dir, "esx", content, Seed, grain);
        string extent = dir.File("esx-delta.vmdk");
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await graph.Root.WriteAsync(1000, new byte[5]);
            content.AsSpan(1000, 5).Clear();
            Assert.Equal(1u, BitConverter.ToUInt32(File.ReadAllBytes(extent), 1648));
            await VmdkWriteTests.ScribbleAsync(graph.Root, content, Seed, 200);
            await graph.Root.FlushAsync();
            Assert.True(FreeOffset(extent) >= new FileInfo(extent).Length - 512);
            await VmdkImages.AssertReadsAsync(graph.Root, content, "before closing");
            await VmdkImages.AssertCleanAsync(graph);
        }

        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), $"qemu-img differs, seed {Seed}");
        Qemu.Img("check", "-f", "vmdk", path);
        Assert.Equal(0u, BitConverter.ToUInt32(File.ReadAllBytes(extent), 1648));
        Assert.Equal(new FileInfo(extent).Length, FreeOffset(extent));
        await using Graph again = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertReadsAsync(again.Root, content, "after closing");
        await VmdkImages.AssertCleanAsync(again);
    }

    [SkippableFact]
    public async Task Flat_extent_of_vmfs_is_written_and_opened_again()
    {
        const int Seed = 16;
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(Odd, Seed);
        string flat = dir.Write("esx-flat.vmdk", content);
        string path = dir.Write("esx.vmdk", Encoding.ASCII.GetBytes(
            EsxImages.Descriptor("vmfs", $"RW {Odd / 512} VMFS \"esx-flat.vmdk\"")));
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "as made");
            await VmdkWriteTests.ScribbleAsync(graph.Root, content, Seed, 100);
        }

        // Nothing but the disk is in the file, and the descriptor is still one for ESX.
        TestPattern.AssertEqual(content, File.ReadAllBytes(flat), 0, $"the flat file, seed {Seed}");
        Assert.Contains($"RW {Odd / 512} VMFS \"esx-flat.vmdk\"", File.ReadAllText(path), StringComparison.Ordinal);
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), $"qemu-img differs, seed {Seed}");
        await using Graph again = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertReadsAsync(again.Root, content, $"opened again, seed {Seed}");
        Assert.Contains(
            (await again.Root.DescribeAsync()).FormatSpecific,
            fact => fact.Key == "create-type" && (string)fact.Value == "vmfs");
    }

    [SkippableFact]
    public async Task Space_that_a_cowd_header_calls_free_but_is_used_is_found_and_mended_by_writing()
    {
        // qemu allocates without keeping this field, and ESX would give the space out again.
        byte[] content = VmdkImages.Content(1 << 20, 3);
        byte[] image = EsxImages.Cowd(content, 3);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(28), 40);
        var device = new MemoryDevice(image);
        await using (Graph graph = await OpenAsync(device, TestGraph.Writable))
        {
            CheckReport report = await VmdkImages.CheckAsync(graph);
            Assert.Equal(1, report.Corruptions);
            Assert.Contains("free", report.Problems[0], StringComparison.Ordinal);
            await graph.Root.WriteAsync(0, content.AsMemory(0, 512));
        }

        await using Graph again = await OpenAsync(device, TestGraph.ReadOnly);
        await VmdkImages.AssertCleanAsync(again);
        await VmdkImages.AssertReadsAsync(again.Root, content, "mended");
    }

    [SkippableTheory]
    [InlineData(512, 21, false)]
    [InlineData(512, 22, true)]
    [InlineData(16 << 10, 23, false)]
    public async Task Crash_of_a_cowd_extent_at_any_change_leaves_every_sector_old_or_new(int grain, int seed, bool async)
    {
        // Two tables with the smallest grain, of which the second is made by the workload.
        byte[] content = new byte[(2 << 20) + (256 << 10) + 1536];
        VmdkImages.Content(512 << 10, seed).CopyTo(content, 0);
        var test = new CrashTest
        {
            Image = EsxImages.Cowd(content, seed, grain),
            InitialDisk = content,
            Seed = seed,
            MixturesPerCut = 1,
            CompletesAsynchronously = async,
            OpenAsync = (file, flags) => TestGraph.Opener.OpenOverAsync("vmdk", file, flags),
            PeerCheck = extent =>
            {
                // qemu-img opens COWD by a descriptor only.
                string descriptor = extent + ".vmdk";
                File.WriteAllText(descriptor, EsxImages.Descriptor(
                    "vmfsSparse", $"RW {content.Length / 512} VMFSSPARSE \"{Path.GetFileName(extent)}\""));
                return CrashTest.QemuCheck("vmdk")(descriptor);
            },
        };
        int states = await test.RunAsync(async guest =>
        {
            var random = new Random(seed);
            for (int i = 0; i < 12; i++)
            {
                int at = random.Next(0, content.Length / 512) * 512;
                int count = Math.Min(random.Next(1, 40) * 512, content.Length - at);
                switch (random.Next(5))
                {
                    case 0:
                        await guest.FlushAsync();
                        break;
                    case 1:
                        await guest.ZeroAsync(at, count, ZeroFlags.MayUnmap);
                        break;
                    default:
                        await guest.WriteAsync(at, count);
                        break;
                }
            }
        });
        Assert.InRange(states, 40, int.MaxValue);
    }

    [SkippableFact]
    public async Task Cowd_child_reads_from_and_fills_grains_from_the_parent_that_its_descriptor_names()
    {
        using var dir = new TempDir();
        byte[] old = VmdkImages.Content(2 << 20, 8);
        byte[] content = [.. old];
        TestPattern.Make(300_000, 0, 9).CopyTo(content, 500_000);
        content.AsSpan(1 << 20, 70_000).Clear();
        string parent = VmdkImages.Convert(dir, "parent", old, "subformat=monolithicFlat");
        dir.Write("child-delta.vmdk", EsxImages.Cowd(content, 10, 512, old));
        string child = dir.Write("child.vmdk", Encoding.ASCII.GetBytes(EsxImages.Descriptor(
            "vmfsSparse", $"RW {content.Length / 512} VMFSSPARSE \"child-delta.vmdk\"",
            $"parentCID={Cid(parent)}\nparentFileNameHint=\"parent.vmdk\"")));
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, child)), "qemu-img reads it otherwise");
        await using (Graph graph = await TestGraph.OpenAsync(child, TestGraph.Writable))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "child");
            await VmdkWriteTests.ScribbleAsync(graph.Root, content, 11, 60);
        }

        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, child)), "written, qemu-img differs");
    }

    [SkippableFact]
    public async Task Cowd_extent_that_says_it_is_a_child_needs_its_parent_without_a_descriptor_too()
    {
        using var dir = new TempDir();
        byte[] old = VmdkImages.Content(1 << 20, 12);
        byte[] content = [.. old];
        content.AsSpan(10_000, 50_000).Fill(7);
        VmdkImages.Convert(dir, "parent", old, "subformat=monolithicSparse");
        string named = dir.Write("named.vmdk", EsxImages.Cowd(content, 1, 512, old, flags: 2, parentName: "parent.vmdk"));
        string nameless = dir.Write("nameless.vmdk", EsxImages.Cowd(content, 1, 512, old, flags: 2));
        await using (Graph graph = await TestGraph.OpenAsync(named))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "by the header's name");
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(nameless));
        Assert.Contains("backing.file.filename", e.Describe(), StringComparison.Ordinal);
        await using Graph given = await TestGraph.OpenOptionsAsync(
            $"driver=vmdk,file.filename={nameless},backing.file.filename={dir.File("parent.vmdk")}");
        await VmdkImages.AssertReadsAsync(given.Root, content, "by hand");
    }

    [SkippableTheory]
    [InlineData(1, (20 << 20) + (9 * 512))]
    [InlineData(2, (33 << 20) + 512)]
    [InlineData(3, 4096)]
    public async Task Sesparse_reads_as_made_and_as_qemu_reads_it(int seed, int length)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(length, seed);
        string path = WriteSeSparse(dir, content, EsxImages.SeSparse(content, seed));
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), "qemu-img reads it otherwise");
        await using Graph graph = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertReadsAsync(graph.Root, content, $"seed {seed}");
        await VmdkImages.AssertCleanAsync(graph);
        Assert.Equal(4096, (await graph.Root.DescribeAsync()).ClusterSize);
    }

    [SkippableFact]
    public async Task Sesparse_child_takes_only_what_is_not_allocated_from_its_parent()
    {
        using var dir = new TempDir();
        byte[] old = VmdkImages.Content(18 << 20, 14);
        byte[] content = [.. old];
        TestPattern.Make(3 << 20, 0, 15).CopyTo(content, 5 << 20);
        content.AsSpan(10 << 20, 2 << 20).Clear(); // Unmapped or zero over data of the parent: must not shine through.
        string parent = VmdkImages.Convert(dir, "parent", old, "subformat=monolithicFlat");
        string more = $"parentCID={Cid(parent)}\nparentFileNameHint=\"parent.vmdk\"";
        string path = WriteSeSparse(dir, content, EsxImages.SeSparse(content, 16, old), more);
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), "qemu-img reads it otherwise");
        await using (Graph graph = await TestGraph.OpenAsync(path))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "child");
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        Assert.Contains("SESPARSE", e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Sesparse_extent_without_descriptor_is_refused_unless_the_user_says_what_lies_below()
    {
        using var dir = new TempDir();
        byte[] old = VmdkImages.Content(1 << 20, 17);
        byte[] content = [.. old];
        content.AsSpan(100_000, 100_000).Fill(3);
        string raw = dir.Write("old.raw", old);
        string path = dir.Write("x-sesparse.vmdk", EsxImages.SeSparse(content, 18, old));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        Assert.Contains("descriptor", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("backing=", e.Describe(), StringComparison.Ordinal);
        await using (Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vmdk,file.filename={path},backing.driver=raw,backing.file.filename={raw}"))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "over a raw file");
        }

        await using Graph alone = await TestGraph.OpenOptionsAsync($"driver=vmdk,file.filename={path},backing=");
        var found = new byte[100_000];
        await alone.Root.ReadAsync(100_000, found);
        Assert.All(found, b => Assert.Equal(3, b));
    }

    public static TheoryData<string, int, ulong, BlockErrorKind> BadSeSparse() => new()
    {
        { "replay journal", 512 + 24, 1, BlockErrorKind.NotSupported },
        { "volatile magic", 512, 0xcafebabe, BlockErrorKind.InvalidData },
        { "version", 8, 0x2_0000_0002, BlockErrorKind.NotSupported },
        { "grain size", 24, 16, BlockErrorKind.NotSupported },
        { "table size", 32, 128, BlockErrorKind.NotSupported },
        { "flags", 40, 1, BlockErrorKind.NotSupported },
        { "capacity 0", 16, 0, BlockErrorKind.InvalidData },
        { "capacity too large", 16, 1UL << 40, BlockErrorKind.LimitExceeded },
        { "directory outside", 128, 1 << 20, BlockErrorKind.InvalidData },
        { "directory entry of another kind", 4096, 0x2000_0000UL << 32, BlockErrorKind.InvalidData },
        { "table outside", 4096, (0x1000_0000UL << 32) | 77, BlockErrorKind.InvalidData },
        { "entry of another kind", EsxImages.SeSparseTables, 4UL << 60, BlockErrorKind.InvalidData },
        { "unallocated entry with a grain", EsxImages.SeSparseTables, 5, BlockErrorKind.InvalidData },
        { "grain outside", EsxImages.SeSparseTables, (3UL << 60) | 0xffff, BlockErrorKind.InvalidData },
    };

    [SkippableTheory]
    [MemberData(nameof(BadSeSparse))]
    public async Task Sesparse_that_is_not_understood_is_refused_and_not_guessed_at(
        string what, int offset, ulong value, BlockErrorKind kind)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(1 << 20, 0, 19);
        byte[] image = EsxImages.SeSparse(content, 20);
        BinaryPrimitives.WriteUInt64LittleEndian(image.AsSpan(offset), value);
        string path = WriteSeSparse(dir, content, image);
        var e = await Assert.ThrowsAsync<BlockException>(async () =>
        {
            await using Graph graph = await TestGraph.OpenAsync(path);
            Assert.InRange((await VmdkImages.CheckAsync(graph)).Corruptions, 1, 2);
            await graph.Root.ReadAsync(0, new byte[1]);
        });
        Assert.True(e.Kind == kind, $"{what}: {e.Describe()}");
    }

    [SkippableFact]
    public async Task Sesparse_check_finds_grains_and_tables_that_are_used_twice()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(33 << 20, 0, 21);
        byte[] image = EsxImages.SeSparse(content, 22);
        image.AsSpan(EsxImages.SeSparseTables, 8).CopyTo(image.AsSpan(EsxImages.SeSparseTables + 80));
        image.AsSpan(4096, 8).CopyTo(image.AsSpan(4096 + 8));
        await using Graph graph = await TestGraph.OpenAsync(WriteSeSparse(dir, content, image));
        CheckReport report = await VmdkImages.CheckAsync(graph);
        Assert.Equal(2, report.Corruptions);
    }

    [SkippableTheory]
    [InlineData("VMFSRDM")]
    [InlineData("VMFSRAW")]
    public async Task Raw_devices_of_the_host_are_refused_by_name(string type)
    {
        using var dir = new TempDir();
        string path = dir.Write("rdm.vmdk", Encoding.ASCII.GetBytes(
            EsxImages.Descriptor("vmfsRawDeviceMap", $"RW 2048 {type} \"rdm-rdm.vmdk\"")));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains(type, e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Extent_of_another_type_than_the_descriptor_gives_is_refused()
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(1 << 20, 23);
        dir.Write("cowd.bin", EsxImages.Cowd(content, 1));
        dir.Write("se.bin", EsxImages.SeSparse(content, 1));
        dir.Write("hosted.bin", new VmdkByHand { Content = content }.Build());
        foreach (string line in new[]
        {
            "SESPARSE \"cowd.bin\"", "VMFSSPARSE \"se.bin\"", "VMFSSPARSE \"hosted.bin\"", "SPARSE \"se.bin\"",
        })
        {
            string path = dir.Write("x.vmdk", Encoding.ASCII.GetBytes(EsxImages.Descriptor("custom", "RW 2048 " + line)));
            var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
            Assert.True(e.Kind == BlockErrorKind.InvalidData, $"{line}: {e.Describe()}");
        }
    }

    [SkippableFact]
    public async Task Disk_whose_changes_vmware_tracks_is_written_only_when_the_user_says_so()
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(1 << 20, 24);
        string tracked = VmdkByHand.MakeDescriptor("monolithicSparse", "RW 2048 SPARSE \"disk.vmdk\"")
            .Replace("version=1", "version=3\nchangeTrackPath=\"disk-ctk.vmdk\"", StringComparison.Ordinal);
        string path = dir.Write(
            "tracked.vmdk", new VmdkByHand { Content = content, Version = 3, Descriptor = tracked }.Build());
        await using (Graph graph = await TestGraph.OpenAsync(path))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "tracked");
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        Assert.Contains("disk-ctk.vmdk", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("change-tracking=ignore", e.Describe(), StringComparison.Ordinal);
        await using (Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vmdk,file.filename={path},change-tracking=ignore", TestGraph.Writable))
        {
            await graph.Root.WriteAsync(100, new byte[1000]);
        }

        // The same version without tracking is an ordinary extent; without its descriptor nobody knows.
        string plain = dir.Write("plain.vmdk", new VmdkByHand { Content = content, Version = 3 }.Build());
        await using (Graph graph = await TestGraph.OpenAsync(plain, TestGraph.Writable))
        {
            await VmdkWriteTests.ScribbleAsync(graph.Root, content, 25, 50);
            await VmdkImages.AssertCleanAsync(graph);
        }

        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, plain)), "qemu-img differs");
        string lone = dir.Write("lone.vmdk", new VmdkByHand { Content = content, Version = 3, Descriptor = "" }.Build());
        await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(lone, TestGraph.Writable));
    }

    private static string WriteSeSparse(TempDir dir, byte[] content, byte[] image, string more = "parentCID=ffffffff")
    {
        dir.Write("x-sesparse.vmdk", image);
        return dir.Write("x.vmdk", Encoding.ASCII.GetBytes(EsxImages.Descriptor(
            "seSparse", $"RW {content.Length / 512} SESPARSE \"x-sesparse.vmdk\"", more)));
    }

    private static string Cid(string path) => VmdkWriteTests.Cid(path).ToString("x8");

    private static long FreeOffset(string extent) => BitConverter.ToUInt32(File.ReadAllBytes(extent), 28) * 512L;

    private static ValueTask<Graph> OpenAsync(MemoryDevice device, OpenFlags flags) =>
        TestGraph.Opener.OpenOverAsync("vmdk", new BlockNode("image", "test", device), flags);
}
