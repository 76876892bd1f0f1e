namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>Files that change under a disk, and everything that might lead out of the folder.</summary>
public sealed class ChangingHostTests : IDisposable
{
    private readonly TempDir _dir = new();
    private readonly string _root;

    public ChangingHostTests() => _root = Directory.CreateDirectory(_dir.File("folder")).FullName;

    private VirtualFatOptions Options => new() { Dir = _root };

    public void Dispose() => _dir.Dispose();

    [Fact]
    public void A_file_that_shrinks_ends_in_zeroes_and_its_neighbour_is_untouched()
    {
        string file = Write("a.bin", 0x11, 10_000);
        Write("b.bin", 0x22, 10_000);
        using TestDisk disk = TestDisk.Open(Options);
        File.WriteAllBytes(file, Filled(0x33, 700));
        byte[] now = ReadFile(disk, "a.bin");
        Assert.Equal(Filled(0x33, 700), now[..700]);
        Assert.True(now.AsSpan(700).IndexOfAnyExcept((byte)0) < 0);
        Assert.Equal(Filled(0x22, 10_000), ReadFile(disk, "b.bin"));
        ReadFile(disk, "a.bin");
        Assert.Single(disk.Warnings);
    }

    [Fact]
    public void A_file_whose_time_was_set_back_is_told_of()
    {
        string file = Write("a.bin", 0x11, 3000);
        using TestDisk disk = TestDisk.Open(Options);
        DateTime time = File.GetLastWriteTimeUtc(file);
        File.WriteAllBytes(file, Filled(0x66, 3000));
        File.SetLastWriteTimeUtc(file, time);
        Assert.Equal(Filled(0x66, 3000), ReadFile(disk, "a.bin"));
        Assert.Contains("'a.bin' has changed", Assert.Single(disk.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_plan_of_files_that_were_just_written_is_waited_for()
    {
        Write("a.bin", 0x11, 3000);
        using TestDisk disk = TestDisk.Open(Options);
        long changed = disk.Plan.Table[1].HostChangedNs;
        var clock = new FixedClock(DateTimeOffset.UnixEpoch.AddTicks(changed / 100));
        Task waiting = TimeSteps.WaitAsync(disk.Plan.Table, clock, CancellationToken.None);
        Assert.InRange(clock.Waited, TimeSpan.FromMilliseconds(19), TimeSpan.FromMilliseconds(21));
        await waiting;
        clock = new FixedClock(DateTimeOffset.UnixEpoch.AddTicks(changed / 100).AddMilliseconds(25));
        await TimeSteps.WaitAsync(disk.Plan.Table, clock, CancellationToken.None);
        Assert.Equal(TimeSpan.Zero, clock.Waited);

        // Of a file system that keeps whole seconds; and of a file from the future, not longer than that.
        disk.Plan.Table[1].HostChangedNs = (changed / 1_000_000_000 + 5) * 1_000_000_000;
        clock = new FixedClock(DateTimeOffset.UnixEpoch.AddTicks(changed / 100));
        await TimeSteps.WaitAsync(disk.Plan.Table, clock, CancellationToken.None);
        Assert.InRange(clock.Waited, TimeSpan.FromSeconds(1.99), TimeSpan.FromSeconds(2.01));
    }

    [Fact]
    public void A_file_that_grows_shows_its_new_bytes_in_its_old_size()
    {
        string file = Write("a.bin", 0x11, 1000);
        using TestDisk disk = TestDisk.Open(Options);
        File.WriteAllBytes(file, Filled(0x44, 5000));
        Assert.Equal(Filled(0x44, 1000), ReadFile(disk, "a.bin"));

        // What follows in the cluster is no part of the file, and stays zero.
        Assert.True(disk.Plan.TryFindByCluster(disk.Plan.Entries[1].FirstCluster, out int entry));
        Assert.Equal(1, entry);
        long offset = disk.Geometry.ClusterOffset(disk.Plan.Entries[1].FirstCluster);
        Assert.True(
            disk.Read(offset, disk.Geometry.ClusterSize).AsSpan(1000).IndexOfAnyExcept((byte)0) < 0);
    }

    [Fact]
    public void A_file_that_vanishes_is_zeroes_and_one_that_comes_back_is_read()
    {
        string file = Write("a.bin", 0x11, 3000);
        using TestDisk disk = TestDisk.Open(Options);
        File.Delete(file);
        Assert.Equal(new byte[3000], ReadFile(disk, "a.bin"));
        Assert.Single(disk.Warnings);
        Write("a.bin", 0x55, 3000);
        Assert.Equal(Filled(0x55, 3000), ReadFile(disk, "a.bin"));
        Assert.Single(disk.Warnings);
    }

    [Fact]
    public void A_file_that_was_read_and_is_replaced_removed_or_moved_away_is_noticed()
    {
        string file = Write("a.bin", 0x11, 3000);
        Directory.CreateDirectory(Path.Join(_root, "sub"));
        Write("sub/c.bin", 0x12, 3000);
        using TestDisk disk = TestDisk.Open(Options);
        var clock = new StoppedClock();
        disk.Synthesiser.Host.Clock = clock;
        disk.Synthesiser.Host.Forget(); // What the scan opened has times of another clock.
        Assert.Equal(Filled(0x11, 3000), ReadFile(disk, "a.bin"));
        Assert.Equal(Filled(0x12, 3000), ReadFile(disk, "c.bin"));

        // As editors save: a new file takes the name. And a folder leaves the tree.
        string other = _dir.Write("new", Filled(0x77, 3000));
        File.Move(other, file, overwrite: true);
        Directory.Move(Path.Join(_root, "sub"), _dir.File("elsewhere"));
        clock.Advance(HostFolder.Trust);
        Assert.Equal(Filled(0x77, 3000), ReadFile(disk, "a.bin"));
        Assert.Equal(new byte[3000], ReadFile(disk, "c.bin"));
        Assert.Equal(2, disk.Warnings.Count);
        File.Delete(file);
        clock.Advance(HostFolder.Trust);
        Assert.Equal(new byte[3000], ReadFile(disk, "a.bin"));
    }

    [Fact]
    public void Looking_again_stays_in_the_folder_whatever_stands_at_its_path()
    {
        Write("a.bin", 0x11, 10);
        Directory.CreateDirectory(_dir.File("outside"));
        using HostFolder host = HostFolder.Open(_root);
        Directory.Move(_root, _dir.File("moved"));
        Directory.CreateSymbolicLink(_root, _dir.File("outside"));
        using HostFolder again = host.Reopen();
        Assert.Equal(host.Stat.Inode, again.Stat.Inode);
    }

    [Fact]
    public void Links_in_the_place_of_a_file_or_folder_lead_nowhere()
    {
        string secret = _dir.Write("secret", Filled(0x66, 3000));
        Directory.CreateDirectory(_dir.File("outside"));
        File.Copy(secret, _dir.File("outside/c.bin"));
        Write("a.bin", 0x11, 3000);
        Directory.CreateDirectory(Path.Join(_root, "sub"));
        Write("sub/c.bin", 0x12, 3000);
        using TestDisk disk = TestDisk.Open(Options);
        File.Delete(Path.Join(_root, "a.bin"));
        File.CreateSymbolicLink(Path.Join(_root, "a.bin"), secret);
        Directory.Delete(Path.Join(_root, "sub"), recursive: true);
        Directory.CreateSymbolicLink(Path.Join(_root, "sub"), _dir.File("outside"));
        disk.Synthesiser.Host.Forget();
        Assert.Equal(new byte[3000], ReadFile(disk, "a.bin"));
        Assert.Equal(new byte[3000], ReadFile(disk, "c.bin"));
        Assert.Equal(2, disk.Warnings.Count);
    }

    [SkippableFact]
    public void A_pipe_in_the_place_of_a_file_keeps_nobody_waiting()
    {
        Require.Tool("mkfifo");
        string file = Write("a.bin", 0x11, 3000);
        using TestDisk disk = TestDisk.Open(Options);
        File.Delete(file);
        Tool.Run("mkfifo", file);
        Assert.Equal(new byte[3000], ReadFile(disk, "a.bin"));
    }

    [SkippableFact]
    public void What_is_no_file_is_left_out_with_a_note()
    {
        Require.Tool("mkfifo");
        File.CreateSymbolicLink(Path.Join(_root, "link"), "/etc/passwd");
        Directory.CreateSymbolicLink(Path.Join(_root, "up"), "..");
        Tool.Run("mkfifo", Path.Join(_root, "pipe"));
        using TestDisk disk = TestDisk.Open(Options);
        Assert.Single(disk.Plan.Entries);
        Assert.Contains(disk.Warnings, text => text.Contains("'link' is a symbolic link", StringComparison.Ordinal));
        Assert.Contains(disk.Warnings, text => text.Contains("'up' is a symbolic link", StringComparison.Ordinal));
        Assert.Contains(disk.Warnings, text => text.Contains("'pipe' is a pipe", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Holes_are_holes_on_the_disk()
    {
        using (var handle = File.OpenHandle(Path.Join(_root, "sparse"), FileMode.CreateNew, FileAccess.Write))
        {
            RandomAccess.Write(handle, Filled(1, 4096), 8 << 20);
            RandomAccess.SetLength(handle, 16 << 20);
        }

        using TestDisk disk = TestDisk.Open(Options);
        long start = disk.Geometry.ClusterOffset(disk.Plan.Entries[1].FirstCluster);
        BlockExtent first = await disk.Synthesiser.MapAsync(start, 16 << 20, CancellationToken.None);
        Assert.True(first is { IsZero: true, Length: 8 << 20 });
        BlockExtent data = await disk.Synthesiser.MapAsync(
            start + (8 << 20), 8 << 20, CancellationToken.None);
        Assert.True(data.IsData && data.Length < 1 << 20);
    }

    private static byte[] Filled(byte value, int count)
    {
        byte[] bytes = new byte[count];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    private static byte[] ReadFile(TestDisk disk, string name)
    {
        PlannedEntry entry = disk.Plan.Entries.Single(e => e.LongName == name);
        return disk.Read(disk.Geometry.ClusterOffset(entry.FirstCluster), (int)entry.Size);
    }

    private string Write(string name, byte value, int count)
    {
        string path = Path.Join(_root, name);
        File.WriteAllBytes(path, Filled(value, count));
        return path;
    }

    /// <summary>A clock that stands; who waits goes on at once, and how long it would have been is kept.</summary>
    private sealed class FixedClock(DateTimeOffset now) : TimeProvider
    {
        public TimeSpan Waited { get; private set; }

        public override DateTimeOffset GetUtcNow() => now;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Waited = dueTime;
            return System.CreateTimer(callback, state, TimeSpan.Zero, period);
        }
    }

    /// <summary>Time that passes when it is told to.</summary>
    private sealed class StoppedClock : TimeProvider
    {
        private long _now = 1;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public void Advance(TimeSpan time) => _now += time.Ticks;

        public override long GetTimestamp() => _now;
    }
}
