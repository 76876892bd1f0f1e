using System.Globalization;
using System.Runtime.InteropServices;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A real NBD server on a unix socket in a test's folder (or on a free TCP port), as a daemon: qemu-nbd, nbdkit or
/// nbd-server. Skips the test where the program is missing. Killed when disposed.
/// </summary>
public sealed class NbdServer : IDisposable
{
    private const int SigKill = 9;
    private const int SigStop = 19;
    private const int SigCont = 18;

    private readonly Func<int> _start;
    private int _pid;

    private NbdServer(string socket, Func<int> start)
    {
        Socket = socket;
        _start = start;
        _pid = start();
    }

    /// <summary>The unix socket.</summary>
    public string Socket { get; }

    /// <summary>The URI of an export.</summary>
    public string Uri(string export = "") => $"nbd+unix:///{export}?socket={Socket}";

    /// <summary>qemu-nbd on a file.</summary>
    public static NbdServer Qemu(TempDir dir, string file, params string[] arguments)
    {
        (string socket, string pidFile) = Names(dir);
        return new NbdServer(socket, () => Start(
            socket, pidFile, "qemu-nbd", ["--fork", "-t", "-e", "16", "-k", socket, $"--pid-file={pidFile}", .. arguments, file]));
    }

    /// <summary>nbdkit with a plugin and its arguments; filters and options go before the plugin.</summary>
    public static NbdServer Kit(TempDir dir, params string[] arguments)
    {
        (string socket, string pidFile) = Names(dir);
        return new NbdServer(
            socket, () => Start(socket, pidFile, "nbdkit", ["-P", pidFile, "-U", socket, .. arguments]));
    }

    /// <summary>nbdkit on a free TCP port of this host.</summary>
    public static NbdServer KitOnTcp(TempDir dir, out int port, params string[] arguments)
    {
        string pidFile = Names(dir).PidFile;
        using (var probe = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0))
        {
            probe.Start();
            port = ((System.Net.IPEndPoint)probe.LocalEndpoint).Port;
        }

        string[] all =
            ["-P", pidFile, "-i", "127.0.0.1", "-p", port.ToString(CultureInfo.InvariantCulture), .. arguments];
        return new NbdServer("", () => Start(pidFile, pidFile, "nbdkit", all));
    }

    /// <summary>nbd-server with exports of files.</summary>
    public static NbdServer Classic(TempDir dir, params (string Name, string File)[] exports)
    {
        (string socket, string pidFile) = Names(dir);
        string config = dir.File("nbd.conf");
        File.WriteAllText(config, string.Concat(
            ["[generic]\nallowlist = true\nunixsock = ", socket, "\n",
            .. exports.Select(export => $"[{export.Name}]\nexportname = {export.File}\nflush = true\nfua = true\n")]));
        return new NbdServer(socket, () => Start(socket, pidFile, "nbd-server", ["-C", config, "-p", pidFile]));
    }

    /// <summary>Ends it without a word.</summary>
    public void Kill()
    {
        if (_pid != 0)
        {
            Assert.Equal(0, Signal(_pid, SigKill));
            _pid = 0;
        }
    }

    /// <summary>Starts it again at the same place.</summary>
    public void Restart()
    {
        Kill();
        _pid = _start();
    }

    /// <summary>Stops it in its tracks.</summary>
    public void Stop() => Assert.Equal(0, Signal(_pid, SigStop));

    /// <summary>Lets it go on.</summary>
    public void Continue() => Assert.Equal(0, Signal(_pid, SigCont));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_pid != 0)
        {
            Signal(_pid, SigKill);
            _pid = 0;
        }
    }

    private static (string Socket, string PidFile) Names(TempDir dir)
    {
        string name = Guid.NewGuid().ToString("N")[..8];
        return (dir.File($"{name}.sock"), dir.File($"{name}.pid"));
    }

    private static int Start(string socket, string pidFile, string tool, string[] arguments)
    {
        File.Delete(socket);
        File.Delete(pidFile);
        TestSupport.Qemu.Succeed(tool, arguments);

        // A daemon may write the file a moment after its parent has ended.
        string text = "";
        Assert.True(
            SpinWait.SpinUntil(
                () => File.Exists(pidFile) && (text = File.ReadAllText(pidFile)).EndsWith('\n') && File.Exists(socket),
                TimeSpan.FromSeconds(20)),
            $"{tool} did not start");
        return int.Parse(text.Trim(), CultureInfo.InvariantCulture);
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Signal(int pid, int signal);
}
