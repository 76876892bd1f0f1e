using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace ImageMount.TestSupport.Servers;

/// <summary>proftpd with its SFTP module, which knows a user "alice" with the password "se cr%et" from a file of its own.</summary>
public sealed class PasswordSshServer : IDisposable
{
    private readonly Process _process;

    /// <summary>Starts it.</summary>
    public PasswordSshServer(TempDir parent)
    {
        Require.Root();
        Require.Tool("proftpd");
        Skip.IfNot(File.Exists("/usr/lib/proftpd/mod_sftp.so"), "proftpd has no mod_sftp");
        var own = new TempDir(parent, "proftpd");
        Port = SshServer.FreePort();
        Qemu.Succeed("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", own.File("host"));
        string hash = Qemu.Succeed("openssl", "passwd", "-6", "se cr%et").Trim();
        File.WriteAllText(own.File("passwd"), $"alice:{hash}:0:0::{parent.Path}:/bin/false\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(own.File("passwd"), UnixFileMode.UserRead | UnixFileMode.UserWrite);
        }

        File.WriteAllText(own.File("conf"), string.Join('\n',
            "ServerName test", "ServerType standalone", "DefaultAddress 127.0.0.1", "SocketBindTight on", "UseIPv6 off",
            $"Port {Port}", "User root", "Group root", "UseReverseDNS off", "WtmpLog off", "DelayTable none",
            $"PidFile {own.File("pid")}", $"ScoreboardFile {own.File("scoreboard")}", $"SystemLog {own.File("log")}",
            "TransferLog none", "AllowOverwrite on", "LoadModule mod_sftp.c", "SFTPEngine on",
            $"SFTPHostKey {own.File("host")}", "SFTPAuthMethods password", $"SFTPLog {own.File("sftp.log")}",
            "AuthOrder mod_auth_file.c", $"AuthUserFile {own.File("passwd")}", "RequireValidShell off", "RootLogin on", ""));
        _process = Process.Start(new ProcessStartInfo(Require.FindTool("proftpd")!)
        {
            ArgumentList = { "-n", "-q", "-c", own.File("conf") },
            UseShellExecute = false,
        })!;
        Assert.True(SpinWait.SpinUntil(IsUp, TimeSpan.FromSeconds(20)), "proftpd did not start");
    }

    /// <summary>Its port.</summary>
    public int Port { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
    }

    private bool IsUp()
    {
        Assert.False(_process.HasExited, "proftpd has ended");
        try
        {
            using var client = new TcpClient();
            client.Connect(IPAddress.Loopback, Port);
            return client.GetStream().ReadByte() == 'S';
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return false;
        }
    }
}
