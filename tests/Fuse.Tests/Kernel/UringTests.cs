using System.Collections.Concurrent;
using ImageMount.Fuse.Mount;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Tests.Kernel;

/// <summary>What is special about requests over io_uring; <see cref="UringKernelTests"/> has what is not.</summary>
public sealed class UringTests(UringSwitch uring) : IClassFixture<UringSwitch>
{
    [SkippableFact]
    public async Task Asked_for_it_is_used_or_refused_with_what_to_do()
    {
        KernelMount.SkipUnlessPossible();
        var options = new FuseSessionOptions { Transport = FuseTransportKind.Uring };
        if (!uring.IsOn)
        {
            FuseMountException e = await Assert.ThrowsAsync<FuseMountException>(
                () => KernelMount.CreateAsync(new MemoryFileSystem(), options));
            Assert.Contains("enable_uring", e.Message, StringComparison.Ordinal);
            return;
        }

        await using KernelMount mount = await KernelMount.CreateAsync(new MemoryFileSystem(), options);
        Assert.Equal(FuseTransportKind.Uring, mount.Session.Transport);
        Assert.Empty(Directory.GetFiles(mount.Path));
        Assert.Empty(mount.Warnings);
    }

    [SkippableFact]
    public async Task By_itself_it_is_used_where_it_is_offered()
    {
        await using KernelMount mount = await KernelMount.CreateAsync(new MemoryFileSystem());
        Assert.Equal(uring.IsOn ? FuseTransportKind.Uring : FuseTransportKind.Threads, mount.Session.Transport);
    }

    [SkippableFact]
    public async Task Slow_synchronous_operations_run_beside_each_other()
    {
        // More readers at once than processors, each blocking its thread for a while: helpers come.
        const int Readers = 8;
        var fileSystem = new SleepyReads { OpenFlags = FuseOpenFlags.DirectIo };
        fileSystem.Add("disk.raw", size: 1 << 20);
        await using KernelMount mount = await KernelMount.CreateAsync(
            fileSystem, new FuseSessionOptions { Transport = uring.IsOn ? FuseTransportKind.Uring : FuseTransportKind.Auto });
        var failures = new ConcurrentQueue<string>();
        Thread[] threads = [.. Enumerable.Range(0, Readers).Select(reader => new Thread(() =>
        {
            using SafeFileHandle handle = File.OpenHandle(mount.At("disk.raw"));
            var page = new byte[4096];
            for (int i = 0; i < 40; i++)
            {
                long at = ((reader * 40L) + i) % 256 * 4096;
                if (RandomAccess.Read(handle, page, at) != 4096 || BitConverter.ToInt64(page) != at)
                {
                    failures.Enqueue($"reader {reader}, round {i}: {BitConverter.ToInt64(page)} at {at}");
                }
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Assert.All(threads, thread => Assert.True(thread.Join(KernelMount.Watchdog)));
        Assert.Empty(failures);
        Assert.True(fileSystem.MostAtOnce > Math.Min(2, Environment.ProcessorCount), $"{fileSystem.MostAtOnce} at once");
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
        Assert.Equal(1, fileSystem.Destroyed);
    }
}
