using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A real glusterd with one volume of one brick, on an address of the loopback of its own (its port cannot be chosen
/// freely). Skips the test where it is not installed. Everything that it started is killed when it is disposed.
/// </summary>
public sealed class GlusterServer : IDisposable
{
    /// <summary>Name of the volume.</summary>
    public const string Volume = "vol";

    private const int Port = 24007;
    private const int SigKill = 9;
    private const int SigStop = 19;
    private const int SigCont = 18;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private readonly TempDir _dir = new();
    private readonly Process _daemon;
    private readonly string[] _brick;

    /// <summary>Starts it.</summary>
    public GlusterServer()
    {
        Require.Root(); // Bricks keep trusted.* attributes.
        Require.Tool("glusterd");
        Require.Tool("gluster");
        Address = FreeAddress();
        foreach (string folder in (string[])["work", "run", "log", "brick"])
        {
            Directory.CreateDirectory(_dir.File(folder));
        }

        File.WriteAllText(_dir.File("glusterd.vol"), $"""
            volume management
                type mgmt/glusterd
                option working-directory {_dir.File("work")}
                option run-directory {_dir.File("run")}
                option logging-directory {_dir.File("log")}
                option glusterd-sockfile {Socket}
                option transport-type socket
                option transport.socket.listen-port {Port}
                option transport.socket.bind-address {Address}
                option ping-timeout 0
                option event-threads 1
                option base-port 49152
                option max-port 60999
            end-volume

            """);
        _daemon = Start(
            Require.FindTool("glusterd")!, "-N", "-f", _dir.File("glusterd.vol"), "-l", _dir.File("log/glusterd.log"), "-p",
            _dir.File("glusterd.pid"));
        try
        {
            Assert.True(
                SpinWait.SpinUntil(() => _daemon.HasExited || Ask("volume", "list"), s_patience) && !_daemon.HasExited,
                "glusterd did not start: " + Log());
            Assert.True(Ask("volume", "create", Volume, $"{Address}:{_dir.File("brick")}", "force"), Log());
            Assert.True(Ask("volume", "start", Volume), Log());
            _brick = File.ReadAllText($"/proc/{BrickId()}/cmdline").TrimEnd('\0').Split('\0');
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Its address.</summary>
    public string Address { get; }

    /// <summary>Its unix socket.</summary>
    public string Socket => _dir.File("glusterd.sock");

    /// <summary>A file of the volume, where the brick has it.</summary>
    public string BrickFile(string name) => Path.Combine(_dir.File("brick"), name);

    /// <summary>The URI of a file.</summary>
    public string Uri(string name) => $"gluster://{Address}/{Volume}/{name}";

    /// <summary>Puts a file into the volume.</summary>
    public string Put(string name, byte[] content)
    {
        File.WriteAllBytes(BrickFile(name), content);
        return Uri(name);
    }

    /// <summary>Kills the brick.</summary>
    public void KillBrick()
    {
        int pid = BrickId();
        Assert.Equal(0, Signal(pid, SigKill));
        Assert.True(SpinWait.SpinUntil(() => IsGone(pid), s_patience));
    }

    /// <summary>Starts the brick again, after <see cref="KillBrick"/>.</summary>
    public void StartBrick()
    {
        using Process starter = Start(_brick[0], _brick[1..]);
        Assert.True(starter.WaitForExit(s_patience));
        Assert.Equal(0, starter.ExitCode);
    }

    /// <summary>Stops the brick in its tracks.</summary>
    public void StopBrick() => Assert.Equal(0, Signal(BrickId(), SigStop));

    /// <summary>Lets the brick go on.</summary>
    public void ContinueBrick() => Assert.Equal(0, Signal(BrickId(), SigCont));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_daemon.HasExited)
        {
            _daemon.Kill();
            _daemon.WaitForExit();
        }

        _daemon.Dispose();
        if (TryBrickId() is { } pid)
        {
            Signal(pid, SigKill);
            SpinWait.SpinUntil(() => IsGone(pid), s_patience);
        }

        if (_brick is not null && Array.IndexOf(_brick, "-S") is >= 0 and var at)
        {
            File.Delete(_brick[at + 1]); // Left behind in /run/gluster.
        }

        _dir.Dispose();
    }

    private static Process Start(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false };
        Array.ForEach(arguments, start.ArgumentList.Add);
        return Process.Start(start)!;
    }

    /// <summary>An address of 127/8 on which nobody has glusterd's port.</summary>
    private static string FreeAddress()
    {
        while (true)
        {
            var address = new IPAddress([127, (byte)Random.Shared.Next(1, 255), (byte)Random.Shared.Next(1, 255), 2]);
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.Bind(new IPEndPoint(address, Port));
                return address.ToString();
            }
            catch (SocketException)
            {
                continue; // Another server of another test has it.
            }
        }
    }

    private static bool IsGone(int pid)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..].StartsWith('Z'); // Nobody may be there to bury it.
        }
        catch (IOException)
        {
            return true;
        }
    }

    /// <summary>Runs the tool that manages volumes; true when it succeeds.</summary>
    private bool Ask(params string[] words)
    {
        var start = new ProcessStartInfo(Require.FindTool("gluster")!)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        string[] all = ["--mode=script", $"--log-file={_dir.File("log/cli.log")}", $"--glusterd-sock={Socket}", .. words];
        Array.ForEach(all, start.ArgumentList.Add);
        using Process process = Process.Start(start)!;
        Task<string> said = process.StandardOutput.ReadToEndAsync();
        process.StandardError.ReadToEnd();
        process.WaitForExit();
        said.GetAwaiter().GetResult();
        return process.ExitCode == 0;
    }

    private string Log()
    {
        string log = _dir.File("log/glusterd.log");
        return File.Exists(log) ? File.ReadAllText(log) : "";
    }

    private int BrickId() => TryBrickId() ?? throw new InvalidOperationException("the brick is not there");

    /// <summary>The brick's process, if it is ours still.</summary>
    private int? TryBrickId()
    {
        string folder = _dir.File($"run/vols/{Volume}");
        string? file = Directory.Exists(folder) ? Directory.GetFiles(folder, "*.pid").FirstOrDefault() : null;
        return file is not null
            && int.TryParse(File.ReadAllText(file), NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out int pid)
            && Directory.Exists($"/proc/{pid}") && !IsGone(pid)
            && File.ReadAllText($"/proc/{pid}/cmdline").Contains(_dir.Path, StringComparison.Ordinal)
                ? pid : null;
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Signal(int pid, int signal);
}
