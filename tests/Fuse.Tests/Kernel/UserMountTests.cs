using System.Runtime.InteropServices;
using ImageMount.Fuse.Mount;

namespace ImageMount.Fuse.Tests.Kernel;

/// <summary>Mounting through fusermount3: as root (only the helper's protocol differs then), and as a user who is not
/// root, on a thread that has become that user. (Credentials belong to threads in Linux; it is libc that sets them for
/// all threads at once, so the bare system call is used.)</summary>
public sealed class UserMountTests
{
    private const uint Nobody = 65534;

    [SkippableFact]
    public async Task Helper_hands_over_the_descriptor()
    {
        SkipUnlessHelper();
        var fileSystem = new MemoryFileSystem();
        fileSystem.Add("disk.raw").Write(0, "hello"u8);
        await using KernelMount mount = await KernelMount.CreateAsync(
            fileSystem, new FuseSessionOptions { FsName = "/img/a, b\\c.vmdk", AllowOther = true }, byHelper: true);
        Assert.Equal("hello", await File.ReadAllTextAsync(mount.At("disk.raw")));
        Assert.Equal("fuse.imgmount-test", MountTable.Find(mount.Path)!.Type);
        Assert.Equal("/img/a, b\\c.vmdk", MountTable.Find(mount.Path)!.Source);
        await mount.Session.UnmountAsync().WaitAsync(KernelMount.Watchdog);
    }

    [SkippableFact]
    public async Task Helper_covers_a_regular_file()
    {
        SkipUnlessHelper();
        var fileSystem = new MemoryFileSystem(rootIsFile: true);
        fileSystem.Root.Write(0, "the disk"u8);
        await using KernelMount mount = await KernelMount.CreateAsync(fileSystem, onFile: true, byHelper: true);
        Assert.Equal("the disk", await File.ReadAllTextAsync(mount.Path));
    }

    [SkippableFact]
    public void User_mounts_uses_and_unmounts()
    {
        SkipUnlessHelper();
        SkipUnlessDeviceIsOpen();
        string directory = PublicDirectory();
        var fileSystem = new MemoryFileSystem { Owner = Nobody };
        fileSystem.Add("disk.raw").Write(0, "hello"u8);
        try
        {
            FuseSession? session = null;
            AsNobody(() =>
            {
                Assert.Equal(Nobody, SysUser.EffectiveId);
                session = FuseSession.MountAsync(directory, fileSystem, new FuseSessionOptions())
                    .WaitAsync(KernelMount.Watchdog).GetAwaiter().GetResult();
                Assert.Equal("hello", File.ReadAllText(Path.Join(directory, "disk.raw")));
                Assert.Equal(Nobody, fileSystem.LastUid);
                File.WriteAllText(Path.Join(directory, "disk.raw"), "by a user");
            });
            // Without allow_other not even root may look in.
            Assert.Throws<UnauthorizedAccessException>(() => File.ReadAllText(Path.Join(directory, "disk.raw")));
            AsNobody(() =>
            {
                using (File.OpenHandle(Path.Join(directory, "disk.raw")))
                {
                    FuseMountException busy = Assert.Throws<FuseMountException>(() => FuseUnmount.Unmount(directory));
                    Assert.Equal(FuseMountFailure.Busy, busy.Failure);
                }
                FuseUnmount.Unmount(directory);
                FuseMountException gone = Assert.Throws<FuseMountException>(() => FuseUnmount.Unmount(directory));
                Assert.Equal(FuseMountFailure.NotMounted, gone.Failure);
            });
            Assert.True(session!.WaitAsync().Wait(KernelMount.Watchdog));
            Assert.Equal(1, fileSystem.Destroyed);
        }
        finally
        {
            SysUmount.Unmount(directory, SysUmount.MNT_DETACH);
            Directory.Delete(directory);
        }
    }

    [SkippableFact]
    public void User_without_permission_is_told_what_to_do()
    {
        SkipUnlessHelper();
        SkipUnlessDeviceIsOpen();
        string others = Directory.CreateTempSubdirectory("fuse-test-").FullName;
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(others, (UnixFileMode)0x1ED); // 0755
        }
        try
        {
            AsNobody(() =>
            {
                FuseMountException e = Assert.Throws<FuseMountException>(() => Mount(others, new FuseSessionOptions()));
                Assert.Equal(FuseMountFailure.MountPointForbidden, e.Failure);
            });
        }
        finally
        {
            Directory.Delete(others);
        }
    }

    [SkippableFact]
    public void User_who_may_not_allow_others_is_told_which_line_to_add()
    {
        SkipUnlessHelper();
        Skip.If(FuseConf.AllowsOther(), "this machine's /etc/fuse.conf allows allow_other to everybody");
        string mine = PublicDirectory();
        try
        {
            AsNobody(() =>
            {
                FuseMountException e = Assert.Throws<FuseMountException>(
                    () => Mount(mine, new FuseSessionOptions { AllowOther = true }));
                Assert.Equal(FuseMountFailure.AllowOtherForbidden, e.Failure);
                Assert.Contains("\"user_allow_other\" to /etc/fuse.conf", e.Message, StringComparison.Ordinal);
            });
        }
        finally
        {
            Directory.Delete(mine);
        }
    }

    private static void Mount(string path, FuseSessionOptions options) =>
        FuseSession.MountAsync(path, new MemoryFileSystem(), options)
            .WaitAsync(KernelMount.Watchdog).GetAwaiter().GetResult();

    private static void SkipUnlessHelper()
    {
        KernelMount.SkipUnlessPossible();
        Skip.IfNot(
            File.Exists("/usr/bin/fusermount3") || File.Exists("/bin/fusermount3"), "fusermount3 is not installed");
    }

    private static void SkipUnlessDeviceIsOpen() => Skip.If(
        !OperatingSystem.IsWindows() && (File.GetUnixFileMode("/dev/fuse") & UnixFileMode.OtherWrite) == 0,
        "/dev/fuse is closed to ordinary users here (udev's default is 0666)");

    private static string PublicDirectory()
    {
        string directory = Directory.CreateTempSubdirectory("fuse-test-").FullName;
        Assert.Equal(0, NativeChown(directory, Nobody, Nobody));
        return directory;
    }

    private static void AsNobody(Action action)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                // Groups first: nothing can be changed once we are nobody.
                long setresgid = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 149 : 119;
                long setresuid = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 147 : 117;
                Assert.Equal(0, NativeSyscall(setresgid, Nobody, Nobody, Nobody));
                Assert.Equal(0, NativeSyscall(setresuid, Nobody, Nobody, Nobody));
                action();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        Assert.True(thread.Join(2 * KernelMount.Watchdog));
        if (failure is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(failure).Throw();
        }
    }

    [DllImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static extern long NativeSyscall(long number, uint real, uint effective, uint saved);

    [DllImport("libc", EntryPoint = "chown", SetLastError = true)]
    private static extern int NativeChown([MarshalAs(UnmanagedType.LPUTF8Str)] string path, uint owner, uint group);
}
