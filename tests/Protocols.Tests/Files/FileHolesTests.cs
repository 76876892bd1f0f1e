using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;
using ImageMount.Protocols.Files;
using Xunit;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>Block status, zeroing and discarding.</summary>
public sealed class FileHolesTests(ITestOutputHelper output) : FileTestBase(output)
{
    private const int Unit = 64 << 10;

    public static TheoryData<string> FileSystems => new() { "/tmp", "/dev/shm" };

    [Theory]
    [MemberData(nameof(FileSystems))]
    public async Task Map_of_a_sparse_file_shows_data_and_holes(string place)
    {
        // data, hole, data, hole to the end; the last hole has an odd end
        string path = NewSparse(place, 8 * Unit + 777, 0, 3, 4);
        BlockNode node = Open(path, ReadOnly);
        Assert.True((node.Capabilities & BlockCapabilities.Map) != 0);
        Assert.Equal(
            [(0, Unit, true), (Unit, 2 * Unit, false), (3 * Unit, 2 * Unit, true), (5 * Unit, 3 * Unit + 777, false)],
            await MapAllAsync(node, node.Length));
        Assert.All(await ReadAsync(node, Unit, 2 * Unit), b => Assert.Equal(0, b));
    }

    [Fact]
    public async Task Map_in_small_steps_equals_map_in_large_steps()
    {
        string path = NewSparse("/tmp", 64 * Unit, [.. Enumerable.Range(0, 64).Where(i => i % 3 == 0)]);
        BlockNode node = Open(path, ReadOnly);
        Assert.Equal(await MapAllAsync(node, node.Length), await MapAllAsync(node, 4096));
        Assert.Equal(await MapAllAsync(node, node.Length), await MapAllAsync(node, 1000));
    }

    [Fact]
    public async Task Map_after_each_kind_of_change_is_not_the_old_answer()
    {
        BlockNode node = Open(NewSparse("/tmp", 8 * Unit), Writable);
        Assert.True((await node.MapAsync(0, node.Length)).IsZero);
        await node.WriteAsync(2 * Unit, Pattern(Unit));
        Assert.Equal((0, 2 * Unit, false), await FirstAsync(node, 0));
        Assert.Equal((2 * Unit, Unit, true), await FirstAsync(node, 2 * Unit));
        await node.DiscardAsync(2 * Unit, Unit);
        Assert.Equal((2 * Unit, 6 * Unit, false), await FirstAsync(node, 2 * Unit));
        await node.TryResizeAsync(10 * Unit);
        Assert.Equal((2 * Unit, 8 * Unit, false), await FirstAsync(node, 2 * Unit));
        await node.WriteAsync(9 * Unit, Pattern(Unit));
        Assert.Equal((2 * Unit, 7 * Unit, false), await FirstAsync(node, 2 * Unit));
        await node.ZeroAsync(9 * Unit, Unit, ZeroFlags.MayUnmap);
        Assert.Equal((2 * Unit, 8 * Unit, false), await FirstAsync(node, 2 * Unit));
    }

    [Fact]
    public async Task Map_after_passthrough_began_sees_what_the_kernel_wrote()
    {
        BlockNode node = Open(NewSparse("/tmp", 4 * Unit), Writable);
        Assert.True((await node.MapAsync(0, node.Length)).IsZero);
        Assert.True(node.TryGetHostFile(out HostFileRegion region));
        RandomAccess.Write(region.Handle, Pattern(Unit), Unit);
        Assert.Equal((0, Unit, false), await FirstAsync(node, 0));
        RandomAccess.Write(region.Handle, Pattern(Unit), 0);
        Assert.Equal((0, 2 * Unit, true), await FirstAsync(node, 0));
    }

    /// <summary>A write that has ended is never again reported as a hole, whatever maps ran beside it.</summary>
    [Fact]
    public async Task Map_beside_writes_never_calls_written_data_a_hole()
    {
        const int Units = 400;
        BlockNode node = Open(NewSparse("/dev/shm", Units * (long)Unit), Writable);
        using var stop = new CancellationTokenSource();
        Task[] mappers = [.. Enumerable.Range(0, 2).Select(_ => Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                await MapAllAsync(node, node.Length);
            }
        }))];
        byte[] bytes = Pattern(4096);
        for (int i = 0; i < Units; i++)
        {
            long offset = i * 7 % Units * (long)Unit;
            await node.WriteAsync(offset, bytes);
            Assert.True((await node.MapAsync(offset, 4096)).IsData, $"unit {i} is called a hole");
        }

        await stop.CancelAsync();
        await Task.WhenAll(mappers);
    }

    /// <summary>The race that the test above cannot force: a write that ends between the question and the answer.</summary>
    [Fact]
    public void Map_keeps_no_answer_that_a_write_has_overtaken()
    {
        FileHoles? holes = null;
        int asked = 0;
        holes = new FileHoles((offset, _) =>
        {
            if (++asked == 1)
            {
                holes!.NoteChange(); // Written and noted after the kernel looked.
                return 100;
            }

            return offset;
        });
        Assert.True(holes.Map(0, 100).IsZero);
        Assert.True(holes.Map(0, 100).IsData);
    }

    [Fact]
    public void Map_of_many_small_steps_asks_the_kernel_once_for_each_extent()
    {
        int asked = 0;
        var holes = new FileHoles((offset, whence) =>
        {
            asked++;
            return whence == SysLseek.SEEK_DATA ? offset : 1L << 40;
        });
        for (int i = 0; i < 1000; i++)
        {
            Assert.Equal(4096, holes.Map(i * 4096L, 4096).Length);
        }

        Assert.Equal(2, asked);
    }

    [Theory]
    [MemberData(nameof(FileSystems))]
    public async Task Zero_that_may_unmap_frees_space_and_reads_as_zero(string place)
    {
        string path = NewFile(Pattern(16 * Unit), place);
        BlockNode node = Open(path, Writable);
        await node.ZeroAsync(Unit + 1, 8 * Unit, ZeroFlags.MayUnmap);
        Assert.True(Blocks(path) <= 9 * Unit, $"{Blocks(path)} bytes are still allocated");
        byte[] expected = Pattern(16 * Unit);
        expected.AsSpan(Unit + 1, 8 * Unit).Clear();
        Assert.Equal(expected, File.ReadAllBytes(path));
    }

    [Fact]
    public async Task Zero_that_may_not_unmap_keeps_space()
    {
        string path = NewFile(Pattern(16 * Unit));
        BlockNode node = Open(path, Writable);
        await node.ZeroAsync(0, 16 * Unit);
        Assert.True(Blocks(path) >= 16 * Unit);
        Assert.All(File.ReadAllBytes(path), b => Assert.Equal(0, b));
    }

    [Theory]
    [MemberData(nameof(FileSystems))]
    public async Task Discard_when_not_wanted_keeps_space_and_content(string place)
    {
        string path = NewFile(Pattern(16 * Unit), place);
        BlockNode node = Open(path, Writable with { Discard = false });
        Assert.True((node.Capabilities & BlockCapabilities.Discard) == 0);
        await node.DiscardAsync(0, 8 * Unit);
        Assert.Equal(Pattern(16 * Unit), File.ReadAllBytes(path));
        await node.ZeroAsync(0, 8 * Unit, ZeroFlags.MayUnmap);
        Assert.True(Blocks(path) >= 16 * Unit, $"{Blocks(path)} bytes are allocated");
        Assert.All(File.ReadAllBytes(path).Take(8 * Unit), b => Assert.Equal(0, b));
    }

    [SkippableFact]
    public async Task Zero_where_the_file_system_cannot_says_so_and_the_node_writes_zeroes()
    {
        string path = Path.Combine(Mount("ramfs", "none", "mode=700"), "disk");
        File.WriteAllBytes(path, Pattern(3 * Unit));
        BlockNode node = Open(path, Writable);
        Assert.False(await node.Device.TryZeroAsync(0, Unit, ZeroFlags.MayUnmap, default));
        Assert.False(await node.Device.TryZeroAsync(0, Unit, ZeroFlags.None, default));
        Assert.False(await node.Device.TryDiscardAsync(0, Unit, default));
        await node.ZeroAsync(100, Unit);
        byte[] expected = Pattern(3 * Unit);
        expected.AsSpan(100, Unit).Clear();
        Assert.Equal(expected, File.ReadAllBytes(path));
    }

    private static async Task<(long, long, bool)> FirstAsync(BlockNode node, long offset)
    {
        BlockExtent extent = await node.MapAsync(offset, node.Length - offset);
        Assert.NotEqual(extent.IsData, extent.IsZero);
        Assert.True((extent.Flags & ExtentFlags.Present) != 0);
        return (offset, extent.Length, extent.IsData);
    }

    /// <summary>The whole map, asked for in steps, neighbours of one kind joined.</summary>
    private static async Task<List<(long From, long Length, bool IsData)>> MapAllAsync(BlockNode node, long step)
    {
        var map = new List<(long From, long Length, bool IsData)>();
        for (long at = 0; at < node.Length;)
        {
            BlockExtent extent = await node.MapAsync(at, Math.Min(step, node.Length - at));
            if (map.Count > 0 && map[^1].IsData == extent.IsData)
            {
                map[^1] = map[^1] with { Length = map[^1].Length + extent.Length };
            }
            else
            {
                map.Add((at, extent.Length, extent.IsData));
            }

            at += extent.Length;
        }

        return map;
    }

    private static long Blocks(string path)
    {
        Assert.Equal(0, Stat.TryGet(path, out StatInfo info));
        return info.Blocks * 512;
    }

    private string NewSparse(string place, long length, params int[] dataUnits)
    {
        string path = NewFile([], place);
        using FileStream stream = File.OpenWrite(path);
        stream.SetLength(length);
        foreach (int unit in dataUnits)
        {
            stream.Position = unit * (long)Unit;
            stream.Write(Pattern(Unit));
        }

        return path;
    }
}
