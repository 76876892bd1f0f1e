using System.Globalization;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A real iSCSI target on a free port of the loopback: tgtd. Skips the test where it is not installed. Killed when disposed;
/// the target is made anew at each start, because tgtd keeps nothing.
/// </summary>
public sealed class IscsiServer : IDisposable
{
    /// <summary>Name of the target.</summary>
    public const string Target = "iqn.2024-01.test.local:disk";

    private readonly TempDir _dir = new();
    private readonly List<string[]> _setup = [];
    private readonly ServerProcess _process;
    private bool _isStopped;

    /// <summary>A target without units that anybody may log in to.</summary>
    public IscsiServer()
    {
        Require.Root(); // tgtd locks its memory.
        Require.Tool("tgtd");
        Require.Tool("tgtadm");
        Port = ServerProcess.FreePort();
        _process = new ServerProcess(
            "env",
            [$"TGT_IPC_SOCKET={Socket}", Require.FindTool("tgtd")!, "-f", "-C", "0", "--iscsi", $"portal=127.0.0.1:{Port}"],
            Port);
        Admin("--op", "new", "--mode", "target", "--tid", "1", "-T", Target);
        Admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "127.0.0.1");
    }

    /// <summary>Its port.</summary>
    public int Port { get; }

    private string Socket => _dir.File("tgtd.sock");

    /// <summary>The URI of a unit.</summary>
    public string Uri(int lun = 1, string user = "") => $"iscsi://{user}127.0.0.1:{Port}/{Target}/{lun}";

    /// <summary>Adds a disk; more arguments as tgtadm takes them ("--blocksize", "4096").</summary>
    public IscsiServer Add(string file, int lun = 1, params string[] arguments)
    {
        Admin(
            ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", Text(lun), "-b", file, .. arguments]);
        return this;
    }

    /// <summary>Adds a disk that knows its holes.</summary>
    public IscsiServer AddThin(string file, int lun = 1) => Add(file, lun).Change(lun, "thin_provisioning=1");

    /// <summary>Changes parameters of a unit.</summary>
    public IscsiServer Change(int lun, string parameters)
    {
        Admin(
            "--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", Text(lun), "--params", parameters);
        return this;
    }

    /// <summary>Only those who know a password get in; and the target proves itself with another where one is given.</summary>
    public IscsiServer Protect(string user, string password, (string User, string Password)? own = null)
    {
        Admin("--op", "new", "--mode", "account", "--user", user, "--password", password);
        Admin("--op", "bind", "--mode", "account", "--tid", "1", "--user", user);
        if (own is { } mutual)
        {
            Admin("--op", "new", "--mode", "account", "--user", mutual.User, "--password", mutual.Password);
            Admin("--op", "bind", "--mode", "account", "--tid", "1", "--user", mutual.User, "--outgoing");
        }

        return this;
    }

    /// <summary>A parameter of the target ("HeaderDigest").</summary>
    public IscsiServer Negotiate(string name, string value)
    {
        Admin("--op", "update", "--mode", "target", "--tid", "1", "-n", name, "-v", value);
        return this;
    }

    /// <summary>Ends it without a word.</summary>
    public void Kill() => _process.Kill();

    /// <summary>Starts it again, after <see cref="Kill"/>.</summary>
    public void Start()
    {
        _process.Start();
        _setup.ForEach(Run);
    }

    /// <summary>Stops it in its tracks.</summary>
    public void Stop()
    {
        _process.Stop();
        _isStopped = true;
    }

    /// <summary>Lets it go on.</summary>
    public void Continue()
    {
        _process.Continue();
        _isStopped = false;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_isStopped)
        {
            Continue();
        }

        _process.Dispose();
        _dir.Dispose();
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private void Admin(params string[] arguments)
    {
        _setup.Add(arguments);
        Run(arguments);
    }

    private void Run(string[] arguments) => Qemu.Succeed(
        "env", [$"TGT_IPC_SOCKET={Socket}", Require.FindTool("tgtadm")!, "-C", "0", "--lld", "iscsi", .. arguments]);
}
