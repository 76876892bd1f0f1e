using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A real sshd on a free port of the loopback, with keys of its own and a key that may log in; for the user that runs the
/// tests. Skips the test where it is not installed. Everything that it started is killed when it is disposed.
/// </summary>
public sealed class SshServer : IDisposable
{
    private const int SigKill = 9;
    private const int SigStop = 19;
    private const int SigCont = 18;

    private readonly TempDir _dir;
    private readonly string _subsystem;
    private readonly string _extra;
    private Process? _sshd;

    /// <summary>Starts it.</summary>
    /// <param name="subsystem">What stands behind "sftp".</param>
    /// <param name="extra">More lines of its configuration.</param>
    public SshServer(string subsystem = "internal-sftp", string extra = "")
    {
        Require.Root(); // Without root, sshd has no folder for privilege separation.
        Require.Tool("sshd");
        Require.Tool("ssh");
        Require.Tool("ssh-keygen");
        _dir = new TempDir(); // Not the test's own: the log in it grows.
        _subsystem = subsystem;
        _extra = extra;
        Directory.CreateDirectory("/run/sshd");
        MakeKey("host");
        MakeKey("id");
        File.Copy(_dir.File("id.pub"), _dir.File("authorized"));
        Port = FreePort();
        WriteClient(File.ReadAllText(_dir.File("host.pub")));
        Start();
    }

    /// <summary>Its port.</summary>
    public int Port { get; }

    /// <summary>The private key that may log in.</summary>
    public string Identity => _dir.File("id");

    /// <summary>Configuration for ssh that knows the host key, and no other file of the user.</summary>
    public string ClientConfig => _dir.File("client");

    /// <summary>Digest of the host key, hexadecimal.</summary>
    public string HostKeySha256 => Convert.ToHexStringLower(SHA256.HashData(
        Convert.FromBase64String(File.ReadAllText(_dir.File("host.pub")).Split(' ')[1])));

    /// <summary>MD5 of the host key with colons, as old lists have it.</summary>
    public string HostKeyMd5 => BitConverter.ToString(MD5.HashData(
        Convert.FromBase64String(File.ReadAllText(_dir.File("host.pub")).Split(' ')[1]))).Replace('-', ':');

    /// <summary>The URI of a file.</summary>
    public string Uri(string path) => $"ssh://127.0.0.1:{Port}{path}";

    /// <summary>Options that make ssh use this server's key files only.</summary>
    public (string Key, string Value)[] Options => [("config", ClientConfig), ("identity", Identity)];

    /// <summary>Has the client believe in some other host key, or none.</summary>
    public void WriteClient(string? hostKey)
    {
        string[] words = hostKey?.Split(' ') ?? [];
        File.WriteAllText(
            _dir.File("known"), words.Length < 2 ? "" : $"[127.0.0.1]:{Port} {words[0]} {words[1].TrimEnd()}\n");
        File.WriteAllText(
            ClientConfig,
            $"UserKnownHostsFile {_dir.File("known")}\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\n");
    }

    /// <summary>Starts it, after <see cref="Kill"/>.</summary>
    public void Start()
    {
        string config = _dir.File("sshd_config");
        File.WriteAllText(config, string.Join('\n',
            $"Port {Port}", "ListenAddress 127.0.0.1", $"HostKey {_dir.File("host")}", "PidFile none",
            $"AuthorizedKeysFile {_dir.File("authorized")}", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "MaxStartups 100",
            $"Subsystem sftp {_subsystem}", _extra, ""));
        _sshd = Process.Start(new ProcessStartInfo(Require.FindTool("sshd")!)
        {
            ArgumentList = { "-D", "-E", _dir.File("log"), "-f", config },
            UseShellExecute = false,
        })!;
        Assert.True(SpinWait.SpinUntil(IsUp, TimeSpan.FromSeconds(20)), "sshd did not start: " + Log());
    }

    /// <summary>Kills it and all that it started.</summary>
    public void Kill()
    {
        _sshd?.Kill(entireProcessTree: true);
        _sshd?.WaitForExit();
        _sshd = null;
    }

    /// <summary>Kills what serves the connections, not what listens; how many there were.</summary>
    public int KillConnections() => Children().Count(pid => Signal(pid, SigKill) == 0);

    /// <summary>Stops everything in its tracks.</summary>
    public void Stop() => Assert.All([_sshd!.Id, .. Children()], pid => Signal(pid, SigStop));

    /// <summary>Lets everything go on.</summary>
    public void Continue() => Assert.All([_sshd!.Id, .. Children()], pid => Signal(pid, SigCont));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_sshd is { HasExited: false })
        {
            Continue();
        }

        Kill();
        _dir.Dispose();
    }

    /// <summary>A port that nobody uses now.</summary>
    public static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    private string Log() => File.Exists(_dir.File("log")) ? File.ReadAllText(_dir.File("log")) : "";

    private void MakeKey(string name) =>
        Qemu.Succeed("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", _dir.File(name));

    private bool IsUp()
    {
        Assert.False(_sshd!.HasExited, Log());
        try
        {
            using var client = new TcpClient();
            client.Connect(IPAddress.Loopback, Port);
            return client.GetStream().ReadByte() == 'S'; // "SSH-2.0-…"
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return false;
        }
    }

    /// <summary>Processes below the one that listens.</summary>
    private List<int> Children()
    {
        var parents = new Dictionary<int, int>();
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), out int pid) && ParentOf(folder) is { } parent)
            {
                parents[pid] = parent;
            }
        }

        var found = new List<int> { _sshd!.Id };
        for (int i = 0; i < found.Count; i++)
        {
            found.AddRange(parents.Where(pair => pair.Value == found[i]).Select(pair => pair.Key));
        }

        return found[1..];
    }

    private static int? ParentOf(string folder)
    {
        try
        {
            string stat = File.ReadAllText(folder + "/stat");
            return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null; // It has ended meanwhile.
        }
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Signal(int pid, int signal);
}
