using System.Diagnostics;
using ImageMount.Fuse.Mount;

namespace ImageMount.Fuse.Tests.Kernel;

/// <summary>A mount for the length of a test, under a watchdog: whatever happens, after a minute the connection is cut
/// and the mount detached, so that a failing test never hangs the machine.</summary>
internal sealed class KernelMount : IAsyncDisposable
{
    public static readonly TimeSpan Watchdog = TimeSpan.FromSeconds(60);

    private readonly Timer _timer;
    private readonly string _directory;

    private KernelMount(string directory, string path, FuseSession session, List<string> warnings)
    {
        _directory = directory;
        Path = path;
        Session = session;
        Warnings = warnings;
        _timer = new Timer(_ => Cut(), null, Watchdog, Timeout.InfiniteTimeSpan);
    }

    /// <summary>The mount point.</summary>
    public string Path { get; }

    public FuseSession Session { get; }

    public List<string> Warnings { get; }

    public static void SkipUnlessPossible()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "FUSE is a thing of Linux");
        Skip.IfNot(File.Exists("/dev/fuse"), "there is no /dev/fuse");
        Skip.IfNot(SysUser.EffectiveId == 0, "mounting in these tests needs root");
    }

    public static async Task<KernelMount> CreateAsync(
        FuseFileSystem fileSystem, FuseSessionOptions? options = null, bool onFile = false, bool byHelper = false)
    {
        SkipUnlessPossible();
        string directory = Directory.CreateTempSubdirectory("fuse-test-").FullName;
        string path = System.IO.Path.Join(directory, "m,nt \\x"); // every character that needs escaping somewhere
        if (onFile)
        {
            await File.WriteAllTextAsync(path, "covered");
        }
        else
        {
            Directory.CreateDirectory(path);
        }
        var warnings = new List<string>();
        options ??= new FuseSessionOptions();
        FuseSession session = await FuseSession.MountAsync(
            path, fileSystem,
            options with
            {
                Subtype = "imgmount-test",
                Warning = (message, e) => warnings.Add(message + " " + e),
            },
            byHelper, default).WaitAsync(Watchdog);
        return new KernelMount(directory, path, session, warnings);
    }

    /// <summary>Runs a program to its end; its standard output. Killed by the watchdog.</summary>
    public static async Task<(int ExitCode, string Output, string Errors)> RunAsync(
        string program, params string[] args)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, args)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        })!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync().WaitAsync(Watchdog);
        await process.WaitForExitAsync().WaitAsync(Watchdog);
        return (process.ExitCode, output, await errors);
    }

    public string At(string name) => System.IO.Path.Join(Path, name);

    /// <summary>Detaches the mount, and removes the mount point.</summary>
    public async ValueTask DisposeAsync()
    {
        await _timer.DisposeAsync();
        await Session.DisposeAsync().AsTask().WaitAsync(Watchdog);
        if (MountTable.Find(Path) is null)
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    private void Cut()
    {
        Session.Abort();
        SysUmount.Unmount(Path, SysUmount.MNT_DETACH);
    }
}
