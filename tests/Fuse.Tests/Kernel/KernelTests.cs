using System.Globalization;
using ImageMount.Fuse.Mount;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Tests.Kernel;

/// <summary>Requests travel through /dev/fuse.</summary>
public sealed class ThreadKernelTests() : KernelTests(FuseTransportKind.Threads);

/// <summary>Requests travel over io_uring.</summary>
public sealed class UringKernelTests : KernelTests, IClassFixture<UringSwitch>
{
    public UringKernelTests(UringSwitch uring)
        : base(uring.IsOn ? FuseTransportKind.Uring : FuseTransportKind.Auto)
    {
    }
}

/// <summary>Against the kernel: what programs see of a mount, whatever way requests travel.</summary>
public abstract class KernelTests(FuseTransportKind transport)
{
    [SkippableFact]
    public async Task Directory_mode_lists_reads_and_ends_orderly()
    {
        var fileSystem = new MemoryFileSystem();
        fileSystem.Add("disk.raw").Write(0, "hello"u8);
        fileSystem.Add("ünïcode").Write(0, "x"u8);
        await using KernelMount mount = await MountAsync(
            fileSystem, new FuseSessionOptions { FsName = "/img/a, b\\c.vmdk" });

        Assert.Equal(["disk.raw", "ünïcode"], Directory.GetFiles(mount.Path).Select(Path.GetFileName).Order());
        Assert.Equal("hello", await File.ReadAllTextAsync(mount.At("disk.raw")));
        Assert.False(File.Exists(mount.At("missing")));
        MountEntry entry = MountTable.Find(mount.Path)!;
        Assert.Equal("fuse.imgmount-test", entry.Type);
        Assert.Equal("/img/a, b\\c.vmdk", entry.Source);
        Assert.Contains(MountTable.ReadFuse("imgmount-test"), m => m.MountPoint == mount.Path);
        Assert.Equal(entry.Device, mount.Session.Device);

        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
        Assert.Equal(1, fileSystem.Destroyed);
        Assert.Null(MountTable.Find(mount.Path));
        Assert.Equal(0, mount.Session.Counters.InFlight);
        Assert.Empty(mount.Warnings);
    }

    [SkippableFact]
    public async Task File_mode_covers_a_regular_file()
    {
        var fileSystem = new MemoryFileSystem(rootIsFile: true);
        fileSystem.Root.Write(0, "the disk"u8);
        await using KernelMount mount = await MountAsync(fileSystem, onFile: true);
        Assert.Equal("the disk", await File.ReadAllTextAsync(mount.Path));
        await File.WriteAllTextAsync(mount.Path, "written");
        Assert.Equal("written", await File.ReadAllTextAsync(mount.Path));
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
        Assert.Equal("covered", await File.ReadAllTextAsync(mount.Path));
    }

    [SkippableTheory]
    [InlineData(false, FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites)]
    [InlineData(false, FuseOpenFlags.KeepCache)]
    [InlineData(true, FuseOpenFlags.KeepCache)]
    public async Task Large_and_odd_reads_and_writes_arrive_unchanged(bool writeback, FuseOpenFlags flags)
    {
        const int Seed = 4711;
        var fileSystem = new MemoryFileSystem { OpenFlags = flags };
        MemoryFile file = fileSystem.Add("disk.raw", size: 8 << 20);
        await using KernelMount mount = await MountAsync(
            fileSystem, new FuseSessionOptions { WritebackCache = writeback });
        var expected = new byte[8 << 20];
        var random = new Random(Seed);
        using (SafeFileHandle handle = File.OpenHandle(mount.At("disk.raw"), FileMode.Open, FileAccess.ReadWrite))
        {
            for (int i = 0; i < 60; i++)
            {
                int offset = random.Next(expected.Length - 1);
                int length = Math.Min(random.Next(1, 3 << 20), expected.Length - offset);
                random.NextBytes(expected.AsSpan(offset, length));
                RandomAccess.Write(handle, expected.AsSpan(offset, length), offset);
                int start = random.Next(expected.Length);
                var read = new byte[Math.Min(random.Next(1, 3 << 20), expected.Length - start)];
                Assert.Equal(read.Length, RandomAccess.Read(handle, read, start));
                Assert.True(
                    read.AsSpan().SequenceEqual(expected.AsSpan(start, read.Length)), $"seed {Seed}, round {i}");
            }
            RandomAccess.FlushToDisk(handle);
        }
        Assert.True(fileSystem.Fsyncs > 0);
        var stored = new byte[expected.Length];
        Assert.Equal(stored.Length, file.Read(0, stored));
        Assert.True(stored.AsSpan().SequenceEqual(expected), $"seed {Seed}");
        Assert.Equal(8 << 20, file.Size);
        Assert.Equal(1 << 20, mount.Session.Info.MaxWrite);
    }

    [SkippableFact]
    public async Task Direct_write_arrives_in_one_request_on_a_page_boundary()
    {
        var fileSystem = new AlignmentProbe { OpenFlags = FuseOpenFlags.DirectIo };
        fileSystem.Add("disk.raw", size: 4 << 20);
        await using KernelMount mount = await MountAsync(fileSystem);
        int most = mount.Session.Info.MaxWrite;
        (int exit, _, string errors) = await KernelMount.RunAsync(
            "dd", "if=/dev/zero", "of=" + mount.At("disk.raw"), $"bs={most}", "count=2", "conv=notrunc", "status=none");
        Assert.True(exit == 0, errors);
        (exit, _, errors) = await KernelMount.RunAsync(
            "dd", "if=" + mount.At("disk.raw"), "of=/dev/null", $"bs={most}", "count=2", "status=none");
        Assert.True(exit == 0, errors);
        Assert.Equal([most, most], fileSystem.WriteLengths);
        Assert.Equal([most, most], fileSystem.ReadLengths);
        Assert.Equal(0, fileSystem.Misaligned);
    }

    [SkippableFact]
    public async Task Truncate_fallocate_seek_and_blocks()
    {
        var fileSystem = new MemoryFileSystem { OpenFlags = FuseOpenFlags.DirectIo };
        MemoryFile file = fileSystem.Add("disk.raw");
        await using KernelMount mount = await MountAsync(fileSystem);
        string path = mount.At("disk.raw");
        await File.WriteAllBytesAsync(path, Enumerable.Repeat((byte)1, 65536).ToArray());
        await Succeeds("truncate", "-s", "1M", path);
        Assert.Equal(1 << 20, file.Size);
        await Succeeds("fallocate", "--punch-hole", "-o", "8192", "-l", "16384", path);
        Assert.Equal((65536 - 16384) / 512, file.Blocks);
        await Succeeds("fallocate", "--zero-range", "-o", "0", "-l", "100", path);
        Assert.Equal(0, (await File.ReadAllBytesAsync(path))[99]);
        Assert.Equal(1, (await File.ReadAllBytesAsync(path))[100]);
        await Succeeds("fallocate", "-l", "2M", path);
        Assert.Equal(2 << 20, file.Size);
        (int exit, _, _) = await KernelMount.RunAsync("fallocate", "--collapse-range", "-o", "0", "-l", "4096", path);
        Assert.NotEqual(0, exit);
        Assert.Equal(
            $"{(65536 - 16384) / 512} {2 << 20}\n", (await KernelMount.RunAsync("stat", "-c", "%b %s", path)).Output);

        using SafeFileHandle handle = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
        int fd = (int)handle.DangerousGetHandle();
        Assert.Equal(8192, SysLseek.Seek(fd, 0, SysLseek.SEEK_HOLE));
        Assert.Equal(24576, SysLseek.Seek(fd, 8192, SysLseek.SEEK_DATA));
        Assert.Equal(-Errno.ENXIO, SysLseek.Seek(fd, 65536, SysLseek.SEEK_DATA));

        async Task Succeeds(string program, params string[] args)
        {
            (int code, _, string errors) = await KernelMount.RunAsync(program, args);
            Assert.True(code == 0, $"{program} {string.Join(' ', args)}: {errors}");
        }
    }

    [SkippableFact]
    public async Task Read_ahead_and_dirty_limit_are_raised_for_root()
    {
        await using KernelMount mount = await MountAsync(
            new MemoryFileSystem(), new FuseSessionOptions { WritebackCache = true, MaxReadahead = 2 << 20 });
        string bdi = "/sys/class/bdi/" + mount.Session.Device;
        Assert.Equal("2048\n", await File.ReadAllTextAsync(bdi + "/read_ahead_kb"));
        Assert.Equal("20\n", await File.ReadAllTextAsync(bdi + "/max_ratio"));
        Skip.IfNot(File.Exists(bdi + "/strict_limit"), "strict_limit came with Linux 6.2");
        Assert.Equal("0\n", await File.ReadAllTextAsync(bdi + "/strict_limit"));
        Assert.Empty(mount.Warnings);
    }

    [SkippableFact]
    public async Task Read_only_mount_refuses_writers_by_itself()
    {
        var fileSystem = new MemoryFileSystem();
        fileSystem.Add("disk.raw").Write(0, "x"u8);
        await using KernelMount mount = await MountAsync(
            fileSystem, new FuseSessionOptions { ReadOnly = true });
        Assert.True(MountTable.Find(mount.Path)!.IsReadOnly);
        IOException e = Assert.Throws<IOException>(
            () => File.OpenHandle(mount.At("disk.raw"), FileMode.Open, FileAccess.Write));
        Assert.Contains("ead-only", e.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Busy_mount_stays_names_its_holder_and_goes_when_released()
    {
        var fileSystem = new MemoryFileSystem();
        fileSystem.Add("disk.raw", size: 4096);
        await using KernelMount mount = await MountAsync(fileSystem);
        using (File.OpenHandle(mount.At("disk.raw")))
        {
            FuseMountException e = await Assert.ThrowsAsync<FuseMountException>(
                () => mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog));
            Assert.Equal(FuseMountFailure.Busy, e.Failure);
            MountHolder holder = Assert.Single(MountHolders.Find(mount.Path));
            Assert.Equal(
                (Environment.ProcessId, "open file", mount.At("disk.raw")), (holder.Pid, holder.How, holder.Path));
            Assert.Equal(0, fileSystem.Destroyed);
            Assert.Equal(4096, new FileInfo(mount.At("disk.raw")).Length);
        }
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
        Assert.Equal(1, fileSystem.Destroyed);
    }

    [SkippableFact]
    public async Task Loop_device_and_its_mount_are_named_as_holders()
    {
        var fileSystem = new MemoryFileSystem { OpenFlags = FuseOpenFlags.KeepCache };
        fileSystem.Add("disk.raw", size: 8 << 20);
        await using KernelMount mount = await MountAsync(fileSystem);
        (int exit, string output, string errors) = await KernelMount.RunAsync(
            "losetup", "--find", "--show", mount.At("disk.raw"));
        Skip.If(exit != 0, "no loop device: " + errors);
        string loop = output.Trim();
        try
        {
            string shown = await File.ReadAllTextAsync($"/sys/block/{Path.GetFileName(loop)}/loop/backing_file");
            Assert.Equal(mount.At("disk.raw") + "\n", shown);
            MountHolder holder = Assert.Single(MountHolders.Find(mount.Path), h => h.Name == loop);
            Assert.Equal(("loop device", mount.At("disk.raw")), (holder.How, holder.Path));
        }
        finally
        {
            await KernelMount.RunAsync("losetup", "--detach", loop);
        }
    }

    [SkippableFact]
    public async Task Umount_by_somebody_else_ends_the_session()
    {
        var fileSystem = new MemoryFileSystem();
        await using KernelMount mount = await MountAsync(fileSystem);
        Assert.Equal(0, (await KernelMount.RunAsync("umount", mount.Path)).ExitCode);
        await mount.Session.WaitAsync().WaitAsync(KernelMount.Watchdog);
        Assert.Equal(1, fileSystem.Destroyed);
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog); // nothing left to do
        Assert.Equal(-Errno.ENODEV, fileSystem.Connection!.NotifyInvalidateInode(2, 0, 0));
    }

    [SkippableFact]
    public async Task Destroy_hook_that_fails_comes_out_of_the_wait()
    {
        var fileSystem = new MemoryFileSystem
        {
            DestroyFails = new FuseException(Errno.EIO, "the image was not flushed"),
        };
        await using KernelMount mount = await MountAsync(fileSystem);
        FuseException e = await Assert.ThrowsAsync<FuseException>(
            () => mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog));
        Assert.Equal("the image was not flushed", e.Message);
        Assert.Null(MountTable.Find(mount.Path));
    }

    [SkippableFact]
    public void Dead_mount_is_recognised_and_detached()
    {
        KernelMount.SkipUnlessPossible();
        string path = Directory.CreateTempSubdirectory("fuse-test-").FullName;
        try
        {
            // The last descriptor is closed, the mount stays: what a crashed server leaves behind.
            FuseMounter.Mount(MountPoint.Check(path), new FuseSessionOptions(), 4096).Dispose();
            Assert.True(MountTable.IsDeadMount(path));
            FuseMountException e = Assert.Throws<FuseMountException>(() => MountPoint.Check(path));
            Assert.Equal(FuseMountFailure.MountPointDead, e.Failure);
            Assert.True(MountTable.TryDetachDead(path));
            Assert.Null(MountTable.Find(path));
            Assert.False(MountTable.TryDetachDead(path));
        }
        finally
        {
            SysUmount.Unmount(path, SysUmount.MNT_DETACH);
            Directory.Delete(path);
        }
    }

    [SkippableFact]
    public async Task Abort_frees_whoever_waits_and_ends_the_session()
    {
        var fileSystem = new NeverReading { OpenFlags = FuseOpenFlags.DirectIo };
        fileSystem.Add("disk.raw", size: 4096);
        await using KernelMount mount = await MountAsync(fileSystem);
        Task<(int ExitCode, string Output, string Errors)> reader = KernelMount.RunAsync("cat", mount.At("disk.raw"));
        await fileSystem.Started.Task.WaitAsync(KernelMount.Watchdog);
        Assert.True(mount.Session.Abort());
        Assert.NotEqual(0, (await reader).ExitCode);
        fileSystem.GiveUp.Cancel(); // the operation itself is still suspended; the session waits for it
        await mount.Session.WaitAsync().WaitAsync(KernelMount.Watchdog);
        Assert.Equal(1, fileSystem.Destroyed);
    }

    [SkippableFact]
    public async Task Mount_whose_init_fails_leaves_nothing_behind()
    {
        KernelMount.SkipUnlessPossible();
        string path = Directory.CreateTempSubdirectory("fuse-test-").FullName;
        FuseMountException e = await Assert.ThrowsAsync<FuseMountException>(
            () => FuseSession.MountAsync(path, new FailingInit(), new FuseSessionOptions())
                .WaitAsync(KernelMount.Watchdog));
        Assert.Equal(FuseMountFailure.Negotiation, e.Failure);
        Assert.Contains("no medium", e.Message, StringComparison.Ordinal);
        Assert.Null(MountTable.Find(path));
        Directory.Delete(path);
    }

    [SkippableFact]
    public async Task Store_and_invalidate_change_what_readers_see()
    {
        var fileSystem = new MemoryFileSystem { OpenFlags = FuseOpenFlags.KeepCache };
        MemoryFile file = fileSystem.Add("disk.raw");
        file.Write(0, new byte[8192]);
        await using KernelMount mount = await MountAsync(fileSystem);
        string path = mount.At("disk.raw");
        IFuseConnection kernel = fileSystem.Connection!;
        Assert.Equal(0, (await File.ReadAllBytesAsync(path))[0]);
        file.Write(0, "B"u8); // behind the kernel's back
        Assert.Equal(0, (await File.ReadAllBytesAsync(path))[0]);
        Assert.Equal(0, kernel.NotifyInvalidateInode(2, 0, 4096));
        Assert.Equal((byte)'B', (await File.ReadAllBytesAsync(path))[0]);
        Assert.Equal(0, kernel.NotifyStore(2, 4096, "C"u8));
        Assert.Equal((byte)'C', (await File.ReadAllBytesAsync(path))[4096]);
        Assert.Equal(-Errno.ENOENT, kernel.NotifyInvalidateInode(4242, 0, 0));
        Assert.Equal(0, kernel.NotifyInvalidateEntry(1, "disk.raw"u8));
        Assert.Equal(0, kernel.NotifyDelete(1, 2, "disk.raw"u8) is var r && r is 0 or -Errno.ENOENT ? 0 : r);
    }

    [SkippableFact]
    public async Task Interrupted_reader_cancels_its_request()
    {
        var fileSystem = new NeverReading { OpenFlags = FuseOpenFlags.DirectIo };
        fileSystem.Add("disk.raw", size: 4096);
        await using KernelMount mount = await MountAsync(fileSystem);
        // SIGINT is sent as soon as the read is known to be under way: no clock decides anything here.
        using var process = System.Diagnostics.Process.Start(
            new System.Diagnostics.ProcessStartInfo("cat", [mount.At("disk.raw")])
            {
                RedirectStandardOutput = true,
                UseShellExecute = false,
            })!;
        await fileSystem.Started.Task.WaitAsync(KernelMount.Watchdog);
        Assert.Equal(0, (await KernelMount.RunAsync(
            "kill", "-INT", process.Id.ToString(CultureInfo.InvariantCulture))).ExitCode);
        await fileSystem.Cancelled.Task.WaitAsync(KernelMount.Watchdog);
        await process.WaitForExitAsync().WaitAsync(KernelMount.Watchdog);
        Assert.NotEqual(0, process.ExitCode);
        // The reader may be gone before the worker that served INTERRUPT has counted it; after the end it has. A dying
        // process closes its file with the signal still pending, so the kernel may interrupt FLUSH as well.
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
        Assert.InRange(mount.Session.Counters.Interrupted, 1, 2);
    }

    [SkippableFact]
    public async Task Passthrough_lets_the_kernel_serve_a_host_file()
    {
        KernelMount.SkipUnlessPossible();
        string host = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(host, "from the host");
            var fileSystem = new PassthroughProbe(host);
            fileSystem.Add("disk.raw", size: 13);
            await using KernelMount mount = await MountAsync(
                fileSystem, new FuseSessionOptions { Passthrough = true });
            Skip.IfNot(mount.Session.Info.Passthrough, "this kernel has no FUSE passthrough");
            Assert.Equal("from the host", await File.ReadAllTextAsync(mount.At("disk.raw")));
            Assert.True(fileSystem.BackingId > 0, $"backing id {fileSystem.BackingId}");
            Assert.Equal(0, mount.Session.Counters.Reads);
            Assert.Equal(0, fileSystem.Connection!.UnregisterBacking(fileSystem.BackingId));
            Assert.True(fileSystem.Connection!.UnregisterBacking(fileSystem.BackingId) < 0);
        }
        finally
        {
            File.Delete(host);
        }
    }

    [SkippableFact]
    public async Task Backing_file_without_passthrough_is_not_supported()
    {
        var fileSystem = new MemoryFileSystem();
        await using KernelMount mount = await MountAsync(fileSystem);
        using SafeFileHandle zero = File.OpenHandle("/dev/zero");
        Assert.Equal(-Errno.EOPNOTSUPP, mount.Session.RegisterBacking(zero));
    }

    [SkippableFact]
    public async Task Many_threads_at_once_get_their_own_answers()
    {
        const int Threads = 8;
        var fileSystem = new Yielding { OpenFlags = FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites };
        MemoryFile file = fileSystem.Add("disk.raw", size: 4 << 20);
        for (int i = 0; i < 1024; i++)
        {
            file.Write(i * 4096L, BitConverter.GetBytes(i));
        }
        await using KernelMount mount = await MountAsync(fileSystem);
        var failures = new System.Collections.Concurrent.ConcurrentQueue<string>();
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(t => new Thread(() =>
        {
            using SafeFileHandle handle = File.OpenHandle(mount.At("disk.raw"));
            var random = new Random(t);
            var page = new byte[4096];
            for (int i = 0; i < 500; i++)
            {
                int index = random.Next(1024);
                RandomAccess.Read(handle, page, index * 4096L);
                if (BitConverter.ToInt32(page) != index)
                {
                    failures.Enqueue($"seed {t}, round {i}: page {index} held {BitConverter.ToInt32(page)}");
                }
            }
        }))];
        Array.ForEach(threads, t => t.Start());
        Assert.All(threads, t => Assert.True(t.Join(KernelMount.Watchdog)));
        Assert.Empty(failures);
        Assert.Equal(Threads * 500, mount.Session.Counters.Reads);
        Assert.True(mount.Session.Counters.Suspended >= Threads * 500 / 2);
        await mount.Session.DrainAsync().WaitAsync(KernelMount.Watchdog);
    }

    private Task<KernelMount> MountAsync(
        FuseFileSystem fileSystem, FuseSessionOptions? options = null, bool onFile = false) =>
        KernelMount.CreateAsync(
            fileSystem, (options ?? new FuseSessionOptions()) with { Transport = transport }, onFile);
}

/// <summary>What only workers on /dev/fuse do.</summary>
public sealed class WorkerTests
{
    [SkippableFact]
    public async Task Workers_that_all_block_are_joined_by_others()
    {
        // More readers block their workers than there are workers at first; only one more request lets them go.
        int readers = Math.Clamp(Environment.ProcessorCount, 2, 8);
        var fileSystem = new BlockingReads(readers) { OpenFlags = FuseOpenFlags.DirectIo };
        fileSystem.Add("disk.raw", size: 4096);
        await using KernelMount mount = await KernelMount.CreateAsync(
            fileSystem, new FuseSessionOptions { Transport = FuseTransportKind.Threads });
        Thread[] threads = [.. Enumerable.Range(0, readers).Select(_ => new Thread(() =>
        {
            using SafeFileHandle handle = File.OpenHandle(mount.At("disk.raw"));
            RandomAccess.Read(handle, new byte[512], 0);
        }))];
        Array.ForEach(threads, t => t.Start());
        Assert.True(fileSystem.AllBlocked.Wait(KernelMount.Watchdog));
        Assert.False(File.Exists(mount.At("missing"))); // a LOOKUP: somebody must be there to answer it
        fileSystem.LetGo.Set();
        Assert.All(threads, t => Assert.True(t.Join(KernelMount.Watchdog)));
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
    }
}
