namespace ImageMount.TestSupport.Servers;

/// <summary>proftpd on a folder, for the user alice with the password secret: plain and explicit TLS, and implicit TLS.</summary>
public sealed class FtpServer : IDisposable
{
    private readonly TempDir _own = new();

    /// <summary>Starts it; root only.</summary>
    /// <param name="folder">Folder with the files.</param>
    /// <param name="certificates">For TLS.</param>
    /// <param name="certificate">Which one.</param>
    public FtpServer(string folder, TestCertificates certificates, string certificate = "server")
    {
        Require.Root();
        Require.Tool("proftpd");
        Skip.IfNot(File.Exists("/usr/lib/proftpd/mod_tls.so"), "proftpd-mod-crypto is not installed");
        Port = ServerProcess.FreePort();
        TlsPort = ServerProcess.FreePort();
        DataPorts = ServerProcess.FreePorts(12);
        string password = _own.File("passwd");
        File.WriteAllText(password, $"alice:{Crypt("secret")}:0:0::{folder}:/bin/false\n");
        Qemu.Succeed("chmod", "600", password);
        string key = _own.File("key.pem");
        File.Copy(certificates.Key(certificate), key);
        Qemu.Succeed("chmod", "600", key);
        string users = $"AuthOrder mod_auth_file.c\nAuthUserFile {password}\nRequireValidShell off\nRootLogin on\nDefaultRoot ~";
        string config = _own.File("proftpd.conf");
        File.WriteAllText(config, $"""
            LoadModule mod_tls.c
            ServerName test
            ServerType standalone
            DefaultAddress 127.0.0.1
            SocketBindTight on
            UseIPv6 off
            Port {Port}
            PassivePorts {DataPorts[0]} {DataPorts[^1]}
            User root
            Group root
            UseReverseDNS off
            WtmpLog off
            DelayEngine off
            PidFile {_own.File("pid")}
            ScoreboardFile {_own.File("scoreboard")}
            DelayTable none
            SystemLog {_own.File("log")}
            TransferLog none
            MaxInstances 100
            {users}
            <Global>
            TLSRSACertificateFile {certificates.Certificate(certificate)}
            TLSRSACertificateKeyFile {key}
            TLSProtocol TLSv1.2 TLSv1.3
            TLSVerifyClient off
            </Global>
            TLSEngine on
            TLSRequired off
            TLSLog {_own.File("tls.log")}
            <VirtualHost 127.0.0.1>
            Port {TlsPort}
            TLSEngine on
            TLSRequired on
            TLSOptions UseImplicitSSL
            TLSLog {_own.File("tls2.log")}
            {users}
            </VirtualHost>

            """.Replace("TLSRSA", "TLSEC", StringComparison.Ordinal));
        Process = new ServerProcess("proftpd", ["-n", "-q", "-c", config], Port, TlsPort);
    }

    /// <summary>Plain, and explicit TLS.</summary>
    public int Port { get; }

    /// <summary>Of plain transfers.</summary>
    public int[] DataPorts { get; }

    /// <summary>Implicit TLS.</summary>
    public int TlsPort { get; }

    /// <summary>The process; its children are the connections.</summary>
    public ServerProcess Process { get; }

    /// <summary>What it wrote about TLS.</summary>
    public string TlsLog => File.ReadAllText(_own.File("tls.log")) + File.ReadAllText(_own.File("tls2.log"));

    /// <summary>A URL.</summary>
    public string Url(string path, string login = "alice:secret@", string host = "127.0.0.1") =>
        $"ftp://{login}{host}:{Port}/{path}";

    /// <summary>A URL with implicit TLS.</summary>
    public string TlsUrl(string path, string host = "127.0.0.1") => $"ftps://alice:secret@{host}:{TlsPort}/{path}";

    /// <inheritdoc/>
    public void Dispose()
    {
        Process.Dispose();
        _own.Dispose();
    }

    /// <summary>A password as crypt(3) has it: MD5, by openssl.</summary>
    private static string Crypt(string password) =>
        Qemu.Succeed("openssl", "passwd", "-1", "-salt", "test", password).Trim();
}
