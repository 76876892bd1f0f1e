using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;
using ImageMount.Protocols.Files;
using ImageMount.TestSupport;
using Microsoft.Win32.SafeHandles;
using Xunit;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>Locking, against real QEMU programs and against ourselves.</summary>
public sealed class FileLockTests(ITestOutputHelper output) : FileTestBase(output)
{
    [SkippableTheory]
    [InlineData("qcow2")]
    [InlineData("raw")]
    public async Task Image_that_qemu_writes_is_refused_by_name_and_pid(string format)
    {
        string path = NewImage(format);
        Process qemu = await StartQemuIoAsync("-f", format, path);
        BlockException e = Refused(path, ReadOnly);
        Assert.Equal(BlockErrorKind.InUse, e.Kind);
        Assert.Contains($"in use by qemu-io (pid {qemu.Id}), which writes it", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("--force-share", e.Describe(), StringComparison.Ordinal);

        e = Refused(path, Writable);
        Assert.Contains($"qemu-io (pid {qemu.Id}), which writes it", e.Describe(), StringComparison.Ordinal);
        Assert.DoesNotContain("--force-share", e.Describe(), StringComparison.Ordinal);

        Assert.Equal(new FileInfo(path).Length, Open(path, ReadOnly with { ForceShare = true }).Length);
        Open(path, Writable, LockingMode.Off);
        Assert.Empty(Warnings);
    }

    [SkippableFact]
    public async Task Image_that_qemu_reads_can_be_read_but_not_written()
    {
        string path = NewImage("qcow2");
        Process qemu = await StartQemuIoAsync("-r", "-f", "qcow2", path);
        Open(path, ReadOnly);
        BlockException e = Refused(path, Writable);
        Assert.Equal(BlockErrorKind.InUse, e.Kind);
        Assert.Contains($"qemu-io (pid {qemu.Id})", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("nobody else write it", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("--read-only", e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Image_that_a_qemu_daemon_exports_is_refused()
    {
        Require.Tool("qemu-storage-daemon");
        string path = NewImage("qcow2");
        string socket = Path.Combine(NewFolder(), "socket");
        string pidFile = socket + ".pid";
        Qemu.Succeed(
            "qemu-storage-daemon", "--daemonize", "--pidfile", pidFile,
            "--blockdev", $"driver=file,node-name=file,filename={path}",
            "--blockdev", "driver=qcow2,node-name=disk,file=file",
            "--nbd-server", $"addr.type=unix,addr.path={socket}",
            "--export", "type=nbd,id=e,node-name=disk,writable=on");
        int pid = int.Parse(File.ReadAllText(pidFile).Trim(), null);
        using Process daemon = Process.GetProcessById(pid);
        try
        {
            BlockException e = Refused(path, ReadOnly);
            Assert.Contains($"qemu-storage-daemon (pid {pid}), which writes it", e.Describe(), StringComparison.Ordinal);
        }
        finally
        {
            daemon.Kill();
        }
    }

    [SkippableFact]
    public async Task Image_that_we_write_is_refused_by_qemu_until_it_is_closed()
    {
        string path = NewImage("qcow2");
        BlockNode node = Open(path, Writable);
        Assert.Contains("lock", Failed("qemu-img", "info", path), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-img", "check", path), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-img", "convert", "-O", "raw", path, path + ".raw"), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-img", "resize", path, "+1M"), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-img", "create", "-f", "qcow2", path, "1M"), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-io", "-c", "write 0 4k", path), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-io", "-r", "-c", "read 0 4k", path), StringComparison.Ordinal);
        Qemu.Img("info", "-U", path);
        Qemu.Succeed("qemu-io", "-r", "-U", "-c", "read 0 4k", path);
        await node.CloseAsync();
        Qemu.Img("info", path);
        Qemu.Io("qcow2", path, "write 0 4k");
    }

    [SkippableFact]
    public async Task Raw_disk_that_we_write_is_refused_to_qemu_writers()
    {
        string path = NewImage("raw");
        BlockNode node = Open(path, Writable);
        Assert.Contains("lock", Failed("qemu-io", "-f", "raw", "-c", "write 0 4k", path), StringComparison.Ordinal);
        Assert.Contains("lock", Failed("qemu-img", "resize", "-f", "raw", path, "+1M"), StringComparison.Ordinal);
        await node.CloseAsync();
        Qemu.Io("raw", path, "write 0 4k");
    }

    /// <summary>QEMU takes no offence at a writer of a raw file that it only reads; then neither do we.</summary>
    [SkippableFact]
    public async Task Raw_disk_can_be_written_beside_a_qemu_reader()
    {
        string path = NewImage("raw");
        await StartQemuIoAsync("-r", "-f", "raw", path);
        Open(path, Writable);
        Qemu.Img("info", "-f", "raw", path);
    }

    [SkippableFact]
    public async Task Image_that_we_read_can_be_read_by_qemu_but_not_written()
    {
        string path = NewImage("qcow2");
        BlockNode node = Open(path, ReadOnly);
        Qemu.Img("info", path);
        Qemu.Img("check", path);
        Assert.Contains("lock", Failed("qemu-io", "-c", "write 0 4k", path), StringComparison.Ordinal);
        await node.CloseAsync();
        Qemu.Io("qcow2", path, "write 0 4k");
    }

    [SkippableFact]
    public async Task Image_that_we_read_shared_can_be_written_by_qemu()
    {
        string path = NewImage("qcow2");
        Open(path, ReadOnly with { ForceShare = true });
        Qemu.Io("qcow2", path, "write 0 4k");
        await Task.CompletedTask;
    }

    [Fact]
    public void Readers_bear_each_other_and_writers_nobody()
    {
        string path = NewFile(Pattern(100));
        Open(path, ReadOnly);
        Open(path, ReadOnly);
        Refused(path, Writable);
        string written = NewFile(Pattern(100));
        Open(written, Writable);
        Assert.Contains("this program itself", Refused(written, Writable).Describe(), StringComparison.Ordinal);
        Refused(written, ReadOnly);
        Open(written, ReadOnly with { ForceShare = true });
        Open(written, ReadOnly with { Locking = LockingMode.Off });
    }

    [Fact]
    public async Task Locks_are_gone_after_close_even_if_the_descriptor_lives_on()
    {
        string path = NewFile(Pattern(100));
        BlockNode node = Open(path, Writable with { Direct = true });
        Assert.True(node.TryGetHostFile(out HostFileRegion region));
        using SafeFileHandle? copy = Duplicate(region.Handle);
        await node.CloseAsync();
        Open(path, Writable);
        Assert.NotNull(copy);
    }

    [SkippableFact]
    public async Task Program_that_is_called_imgmount_is_named_so()
    {
        string path = NewImage("qcow2");
        Require.Tool("qemu-io");
        Process process = await StartAsync("bash", ["-c", $"exec -a /opt/x/imgmount qemu-io {path}"]);
        Assert.Contains(
            $"in use by imgmount (pid {process.Id}), which writes it", Refused(path, ReadOnly).Describe(),
            StringComparison.Ordinal);
    }

    [Fact]
    public void Mount_of_imgmount_is_found_by_its_image()
    {
        string[] lines =
        [
            "22 27 0:21 / /proc rw,nosuid - proc proc rw",
            "36 25 0:52 / /mnt/other rw,relatime shared:1 master:2 - fuse.imgmount /data/disk.qcow2.bak rw,user_id=0",
            "37 25 0:53 / /mnt/a\\040b rw,relatime - fuse.imgmount /data/my\\040disk.qcow2 rw,user_id=0",
            "38 25 0:54 / /mnt/c rw,relatime - fuse.other /data/disk.qcow2 rw",
            "short",
        ];
        Assert.Equal("/mnt/a b", LockHolders.FindMount(lines, "/data/my disk.qcow2"));
        Assert.Null(LockHolders.FindMount(lines, "/data/disk.qcow2"));
    }

    [Theory]
    [InlineData("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:77 100 101", 101, true)]
    [InlineData("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:77 100 101", 103, false)]
    [InlineData("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:78 100 101", 101, false)]
    [InlineData("lock:\t2: POSIX  ADVISORY  WRITE 4711 fe:00:77 0 EOF", 201, true)]
    [InlineData("lock:\t2: FLOCK  ADVISORY  WRITE 4711 fe:00:77 0 EOF", 201, false)]
    [InlineData("lock:\t2: LEASE  ACTIVE", 201, false)]
    [InlineData("pos:\t0", 0, false)]
    public void Lock_line_of_the_kernel_is_read(string line, long position, bool expected) =>
        Assert.Equal(expected, LockHolders.IsLockOn(line, new StatInfo(0, 0, 77, 0, 0, 0, 0), position));

    /// <summary>A kernel without OFD locks: POSIX locks do the same between processes.</summary>
    [SkippableFact]
    public async Task Locks_of_posix_kind_hold_against_qemu_both_ways()
    {
        string path = NewImage("qcow2");
        using (SafeFileHandle handle = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
        {
            FileLocks? locks = TakePosix(handle, path, LockingMode.Auto);
            Assert.NotNull(locks);
            Assert.Contains("POSIX", Assert.Single(Warnings), StringComparison.Ordinal);
            Assert.Contains("lock", Failed("qemu-img", "info", path), StringComparison.Ordinal);
            locks.Release();
            Qemu.Img("info", path);
            var e = Assert.Throws<BlockException>(() => TakePosix(handle, path, LockingMode.On));
            Output.WriteLine(e.Describe());
            Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        }

        Process qemu = await StartQemuIoAsync(path);
        using SafeFileHandle again = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        var refused = Assert.Throws<BlockException>(() => TakePosix(again, path, LockingMode.Auto));
        Assert.Contains($"(pid {qemu.Id})", refused.Describe(), StringComparison.Ordinal);
    }

    private static SafeFileHandle? Duplicate(SafeFileHandle handle)
    {
        // A dup(2) would do; opening /proc/self/fd would make a description of its own.
        int copy = NativeDup((int)handle.DangerousGetHandle());
        return copy < 0 ? null : new SafeFileHandle(copy, ownsHandle: true);
    }

    private FileLocks? TakePosix(SafeFileHandle handle, string path, LockingMode mode)
    {
        Assert.Equal(0, Stat.TryGet(handle, out StatInfo stat));
        return FileLocks.Take(
            (int)handle.DangerousGetHandle(), path, stat, Writable, mode, Warnings.Add, ofdExists: false);
    }

    private string NewImage(string format)
    {
        string path = Path.Combine(NewFolder(), "disk." + format);
        Qemu.Img("create", "-q", "-f", format, path, "1M");
        return path;
    }

    private string Failed(string tool, params string[] arguments)
    {
        ToolResult result = Qemu.Run(tool, arguments);
        Output.WriteLine($"{tool} {string.Join(' ', arguments)}: {result.All}");
        Assert.NotEqual(0, result.ExitCode);
        return result.All;
    }

    [System.Runtime.InteropServices.DllImport("libc", EntryPoint = "dup")]
    private static extern int NativeDup(int fd);
}
