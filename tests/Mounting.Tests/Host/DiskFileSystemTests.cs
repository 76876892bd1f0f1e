using ImageMount.Fuse;
using ImageMount.Mounting.Fuse;
using ImageMount.Mounting.Reports;
using ImageMount.Mounting.Tests.Partitions;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Tests.Host;

public sealed class DiskFileSystemTests
{
    private const int O_RDONLY = 0;
    private const int O_WRONLY = 1;
    private const int O_RDWR = 2;
    private const int O_DSYNC = 0x1000;
    private const int KeepSize = 1;
    private const int PunchHole = 2;
    private const int ZeroRange = 16;
    private const int CollapseRange = 8;
    private const long Length = 100 * 512;

    private static readonly FuseRequestContext Context = new(1, 0, 0, 1);

    [Theory]
    [InlineData(0, 100, 100)]
    [InlineData(Length - 10, 100, 10)]
    [InlineData(Length - 10, 10, 10)]
    [InlineData(Length, 1, -Errno.ENOSPC)]
    [InlineData(Length + 4096, 1, -Errno.ENOSPC)]
    public async Task Writes_end_at_the_end_of_the_disk_like_those_to_a_block_device(
        long offset, int count, int expected)
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        Assert.Equal(expected, await host.System.WriteAsync(
            Context, host.Disk, 0, offset, new byte[count], default, default));
    }

    [Fact]
    public async Task A_delayed_write_past_the_end_stops_the_writer_at_its_next_question()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        ulong handle = (await host.OpenAsync(host.Disk, O_RDWR)).Handle;
        var delayed = new FuseWriteInfo(FuseWriteFlags.Cache, O_RDWR);
        Assert.Equal(-Errno.ENOSPC, await host.System.WriteAsync(
            Context, host.Disk, handle, Length - 512, new byte[1024], delayed, default));
        Assert.Equal(1, host.Device.Count(TestOperation.Write)); // what fitted was written

        Assert.Equal(Errno.ENOSPC, (await host.System.GetAttributesAsync(Context, host.Disk, handle, default)).Errno);
        Assert.Equal(0, (await host.System.GetAttributesAsync(Context, host.Disk, null, default)).Errno);
        await host.System.ReleaseAsync(Context, host.Disk, handle, 0, default);
        Assert.Equal([(1UL, "disk.raw")], host.Kernel.Forgotten);
        Assert.Equal(0, (await host.System.GetAttributesAsync(Context, host.Disk, handle, default)).Errno);
    }

    [Theory]
    [InlineData(O_RDWR, WriteFlags.None)]
    [InlineData(O_RDWR | O_DSYNC, WriteFlags.Fua)]
    public async Task A_write_through_a_synchronous_handle_is_durable(int flags, WriteFlags expected)
    {
        Host host = await Host.MakeAsync(
            new FuseMountOptions(), BlockCapabilities.Write | BlockCapabilities.Fua);
        await host.System.WriteAsync(
            Context, host.Disk, 0, 0, new byte[512], new FuseWriteInfo(FuseWriteFlags.None, flags), default);
        Assert.Equal(expected, host.Device.Log.Last(r => r.Operation == TestOperation.Write).Flags);
    }

    [Fact]
    public async Task Fsync_flushes_and_close_does_not()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        Assert.Equal(0, await host.System.FlushAsync(Context, host.Disk, 0, default));
        Assert.Equal(0, host.Device.Count(TestOperation.Flush));
        Assert.Equal(0, await host.System.FsyncAsync(Context, host.Disk, 0, false, default));
        Assert.Equal(1, host.Device.Count(TestOperation.Flush));
    }

    [Theory]
    [InlineData(CacheMode.Writeback, O_RDWR, FuseOpenFlags.KeepCache)]
    [InlineData(CacheMode.Writeback, O_WRONLY, FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites)]
    [InlineData(CacheMode.Writethrough, O_RDWR, FuseOpenFlags.KeepCache)]
    [InlineData(CacheMode.Unsafe, O_RDONLY, FuseOpenFlags.KeepCache)]
    [InlineData(CacheMode.None, O_RDWR, FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites)]
    [InlineData(CacheMode.Directsync, O_RDONLY, FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites)]
    public async Task The_cache_mode_decides_how_files_are_opened(CacheMode mode, int flags, FuseOpenFlags expected)
    {
        Host host = await Host.MakeAsync(new FuseMountOptions { Cache = mode });
        Assert.Equal(expected, (await host.OpenAsync(host.Disk, flags)).Flags);
    }

    [Fact]
    public async Task Closing_a_written_partition_drops_what_the_kernel_caches_of_the_disk_there()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        ulong p1 = host.Partition;
        await host.OpenAsync(host.Disk, O_RDONLY);
        FuseOpenReply open = await host.OpenAsync(p1, O_RDWR);
        Assert.True(open.Flags.HasFlag(FuseOpenFlags.DirectIo));

        await host.System.WriteAsync(Context, p1, open.Handle, 0, new byte[512], default, default);
        Assert.Empty(host.Kernel.Invalidated);
        await host.System.FlushAsync(Context, p1, open.Handle, default);
        Assert.Equal([(host.Disk, 10L * 512, 50L * 512)], host.Kernel.Invalidated);
        await host.System.ReleaseAsync(Context, p1, open.Handle, 0, default);
        Assert.Single(host.Kernel.Invalidated); // nothing new to tell
    }

    [Fact]
    public async Task Opening_the_disk_calls_in_the_delayed_writes_of_a_partition()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        await host.OpenAsync(host.Partition, O_RDWR);
        await host.OpenAsync(host.Disk, O_RDONLY);
        Assert.Equal([(host.Partition, 0L, 50L * 512)], host.Kernel.Invalidated);
    }

    [Theory]
    [InlineData(PunchHole | KeepSize, 0L, 512L, 0)]
    [InlineData(PunchHole | KeepSize, Length, 512L, 0)]
    [InlineData(ZeroRange, 512L, 512L, 0)]
    [InlineData(ZeroRange | KeepSize, Length - 512, 5120L, 0)]
    [InlineData(ZeroRange, Length - 512, 5120L, -Errno.ENOSPC)]
    [InlineData(0, Length, 512L, -Errno.ENOSPC)]
    [InlineData(0, 0L, 512L, -Errno.EOPNOTSUPP)]
    [InlineData(KeepSize, Length, 512L, -Errno.EOPNOTSUPP)]
    [InlineData(PunchHole, 0L, 512L, -Errno.EOPNOTSUPP)]
    [InlineData(CollapseRange, 0L, 512L, -Errno.EOPNOTSUPP)]
    [InlineData(PunchHole | KeepSize, -1L, 512L, -Errno.EINVAL)]
    [InlineData(PunchHole | KeepSize, 0L, 0L, -Errno.EINVAL)]
    [InlineData(ZeroRange, 1L, long.MaxValue, -Errno.EINVAL)]
    public async Task Fallocate_zeroes_and_does_not_promise_what_it_cannot(
        int mode, long offset, long length, int expected)
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        Assert.Equal(expected, await host.System.FallocateAsync(
            Context, host.Disk, 0, offset, length, mode, default));
        Assert.Equal(Length, host.Node.Length);
    }

    [Theory]
    [InlineData(true, ZeroFlags.MayUnmap)]
    [InlineData(false, ZeroFlags.None)]
    public async Task Punching_frees_space_unless_discards_are_to_be_ignored(bool discard, ZeroFlags expected)
    {
        var device = new ZeroingDevice();
        Host host = await Host.MakeAsync(new FuseMountOptions { Discard = discard }, device);
        await host.System.FallocateAsync(Context, host.Disk, 0, 0, 512, PunchHole | KeepSize, default);
        await host.System.FallocateAsync(Context, host.Disk, 0, 0, 512, ZeroRange, default);
        Assert.Equal([expected, ZeroFlags.None], device.Seen);
    }

    [Theory]
    [InlineData(false, 0L, 0, Length)] // O_TRUNC: a disk keeps its length
    [InlineData(false, Length, 0, Length)]
    [InlineData(false, 512L, Errno.EPERM, Length)]
    [InlineData(false, Length + 512, Errno.EPERM, Length)]
    [InlineData(true, Length + 512, 0, Length + 512)]
    [InlineData(true, 0L, 0, Length)]
    [InlineData(true, 512L, Errno.EPERM, Length)]
    public async Task Only_a_growable_disk_changes_its_size_and_only_upwards(
        bool growable, long size, int expected, long lengthAfter)
    {
        Host host = await Host.MakeAsync(new FuseMountOptions { Growable = growable });
        var change = new FuseSetAttributes { Mask = FuseSetAttributesMask.Size, Size = size };
        FuseResult<FuseAttributes> result = await host.System.SetAttributesAsync(Context, host.Disk, change, default);
        Assert.Equal(expected, result.Errno);
        Assert.Equal(lengthAfter, host.Node.Length);
        if (expected == 0)
        {
            Assert.Equal(lengthAfter, result.Value.Size);
        }
    }

    [Fact]
    public async Task A_read_only_mount_refuses_every_change()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions { ReadOnly = true });
        Assert.Equal(Errno.EROFS, (await host.System.OpenAsync(Context, host.Disk, O_RDWR, default)).Errno);
        Assert.Equal(-Errno.EROFS, await host.System.FallocateAsync(Context, host.Disk, 0, 0, 1, 3, default));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await host.System.WriteAsync(
            Context, host.Disk, 0, 0, new byte[1], default, default));
        Assert.Equal(Errno.EROFS, host.System.MapException(e));
        Assert.Equal(0u, (await host.System.GetAttributesAsync(Context, host.Disk, null, default)).Value.Mode & 0x92);
    }

    [Theory]
    [InlineData(null, false, 0x180u, 0x140u)] // 600, 500
    [InlineData(null, true, 0x1A4u, 0x16Du)] // 644, 555
    [InlineData(0x1A0u, false, 0x1A0u, 0x168u)] // 640, 550
    public async Task Permissions_follow_the_options(uint? mode, bool allowOther, uint file, uint directory)
    {
        Host host = await Host.MakeAsync(
            new FuseMountOptions { Mode = mode, AllowOther = allowOther, Uid = 7, Gid = 8 });
        FuseAttributes disk = (await host.System.GetAttributesAsync(Context, host.Disk, null, default)).Value;
        FuseAttributes root = (await host.System.GetAttributesAsync(Context, 1, null, default)).Value;
        Assert.Equal((FuseMode.S_IFREG | file, 7u, 8u), (disk.Mode, disk.Uid, disk.Gid));
        Assert.Equal(FuseMode.S_IFDIR | directory, root.Mode);
    }

    [Fact]
    public async Task Chmod_chown_and_touch_last_as_long_as_the_mount()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        var change = new FuseSetAttributes
        {
            Mask = FuseSetAttributesMask.Mode | FuseSetAttributesMask.Uid | FuseSetAttributesMask.ModifyTime,
            Mode = FuseMode.S_IFREG | 0xFFF,
            Uid = 42,
            ModifyTime = new FuseTimestamp(5, 6),
        };
        await host.System.SetAttributesAsync(Context, host.Disk, change, default);
        FuseAttributes now = (await host.System.GetAttributesAsync(Context, host.Disk, null, default)).Value;
        Assert.Equal(FuseMode.S_IFREG | 0x1FF, now.Mode); // no setuid
        Assert.Equal((42u, new FuseTimestamp(5, 6)), (now.Uid, now.ModifyTime));
    }

    [Fact]
    public async Task Copying_from_a_partition_to_the_disk_copies()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        host.Device.Content.AsSpan(10 * 512, 1000).Fill(0x77);
        Assert.Equal(1000, await host.System.CopyFileRangeAsync(
            Context, host.Partition, 0, 0, host.Disk, 0, 80 * 512, 1000, 0, default));
        Assert.Equal(
            host.Device.Content.AsSpan(10 * 512, 1000).ToArray(), host.Device.Content.AsSpan(80 * 512, 1000).ToArray());
        Assert.Equal(512, await host.System.CopyFileRangeAsync(
            Context, host.Disk, 0, Length - 512, host.Disk, 0, 0, 4096, 0, default));
    }

    [Fact]
    public async Task A_failing_disk_is_counted_and_mapped()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions());
        host.Device.Before = _ => throw new BlockException(BlockErrorKind.NoSpace, "full");
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await host.System.WriteAsync(
            Context, host.Disk, 0, 0, new byte[512], default, default));
        Assert.Equal(Errno.ENOSPC, host.System.MapException(e));
        Assert.Equal(1, host.System.Statistics.Read(DiskOperation.Write).Errors);
        Assert.Equal(0, host.System.Statistics.Read(DiskOperation.Write).Count);
    }

    [Fact]
    public async Task A_warm_read_or_write_allocates_nothing()
    {
        Host host = await Host.MakeAsync(new FuseMountOptions(), new QuietDevice());
        var buffer = new byte[4096];
        Assert.Equal(0, Allocations.Least(20, () =>
        {
            for (int i = 0; i < 1000; i++)
            {
                ValueTask<int> read = host.System.ReadAsync(Context, host.Disk, 0, i * 8, buffer, default);
                ValueTask<int> write = host.System.WriteAsync(Context, host.Disk, 0, i * 8, buffer, default, default);
                Assert.True(read.IsCompletedSuccessfully && write.IsCompletedSuccessfully, "suspended");
                Assert.True(read.GetAwaiter().GetResult() + write.GetAwaiter().GetResult() == 8192);
            }
        }));
    }

    /// <summary>Says which flags zeroing had.</summary>
    private sealed class ZeroingDevice : BlockDevice
    {
        public List<ZeroFlags> Seen { get; } = [];

        public override long Length => DiskFileSystemTests.Length;

        public override BlockCapabilities Capabilities => BlockCapabilities.Write | BlockCapabilities.Zero;

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            buffer.Span.Clear();
            return default;
        }

        public override ValueTask<bool> TryZeroAsync(
            long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
        {
            Seen.Add(flags);
            return new(true);
        }
    }

    /// <summary>A disk that keeps no log.</summary>
    private sealed class QuietDevice : BlockDevice
    {
        public override long Length => DiskFileSystemTests.Length;

        public override BlockCapabilities Capabilities => BlockCapabilities.Write;

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
            default;

        public override ValueTask WriteAsync(
            long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) => default;
    }

    private sealed record Host(
        DiskFileSystem System, FakeConnection Kernel, BlockNode Node, MemoryDevice Device, ulong Disk, ulong Partition)
    {
        public static async Task<Host> MakeAsync(
            FuseMountOptions options,
            BlockCapabilities capabilities = BlockCapabilities.Write | BlockCapabilities.Resize) =>
            await MakeAsync(options, new MemoryDevice(new DiskBuilder(100).Entry(0, 0, 0x83, 10, 50).Sign().Bytes)
            {
                Declared = capabilities,
            });

        public static async Task<Host> MakeAsync(FuseMountOptions options, BlockDevice device)
        {
            var node = new BlockNode("disk", "memory", device);
            MountTree tree = await MountTree.CreateAsync(node, new MountTreeOptions
            {
                Policy = new(options.ReadOnly, options.Growable, options.Discard),
            });
            var system = new DiskFileSystem(tree, options);
            var kernel = new FakeConnection();
            await system.InitializeAsync(kernel, default);
            return new Host(system, kernel, node, (device as MemoryDevice)!, tree.Disk.Id, tree.DiskFiles[^1].Id);
        }

        public async Task<FuseOpenReply> OpenAsync(ulong inode, int flags) =>
            (await System.OpenAsync(Context, inode, flags, default)).Value;
    }
}
