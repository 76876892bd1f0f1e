namespace ImageMount.TestSupport.Servers;

/// <summary>
/// nginx on a folder. Paths: /x (plain), /auth/x (alice, secret), /norange/x, /nohead/x, /redirect/x (to /x), /loop,
/// /gone, /busy (503), /query?x=… (the file by its query). One worker.
/// </summary>
public sealed class WebServer : IDisposable
{
    private readonly TempDir _own = new();
    private readonly ServerProcess _process;

    /// <summary>Starts it.</summary>
    /// <param name="folder">Folder with the files.</param>
    /// <param name="certificates">For HTTPS; or null.</param>
    /// <param name="certificate">Which one: "server", "other", "old".</param>
    /// <param name="more">More lines for the server block.</param>
    public WebServer(string folder, TestCertificates? certificates = null, string certificate = "server", string more = "")
    {
        Port = ServerProcess.FreePort();
        int tlsPort = certificates is null ? 0 : ServerProcess.FreePort();
        TlsPort = tlsPort;
        string tls = certificates is null ? "" :
            $"""
            listen 127.0.0.1:{tlsPort} ssl http2;
            ssl_certificate {certificates.Certificate(certificate)};
            ssl_certificate_key {certificates.Key(certificate)};
            """;
        string user = Environment.IsPrivilegedProcess ? "user root;" : "";
        File.WriteAllText(_own.File("users"), "alice:{PLAIN}secret\n");
        File.WriteAllText(_own.File("nginx.conf"), $$"""
            daemon off; worker_processes 1; {{user}}
            pid {{_own.File("pid")}}; error_log {{_own.File("error.log")}};
            events { worker_connections 256; }
            http {
              access_log {{_own.File("access.log")}}; default_type application/octet-stream; sendfile on;
              client_body_temp_path {{_own.Path}}; proxy_temp_path {{_own.Path}}; fastcgi_temp_path {{_own.Path}};
              uwsgi_temp_path {{_own.Path}}; scgi_temp_path {{_own.Path}};
              server {
                listen 127.0.0.1:{{Port}}; {{tls}}
                root {{folder}};
                location /auth/    { auth_basic "test"; auth_basic_user_file {{_own.File("users")}}; alias {{folder}}/; }
                location /norange/ { max_ranges 0; alias {{folder}}/; }
                location /nohead/  { if ($request_method = HEAD) { return 405; } alias {{folder}}/; }
                location /slow/    { limit_rate 100k; alias {{folder}}/; }
                location /redirect/ { rewrite ^/redirect/(.*)$ /$1 redirect; }
                location /tls/     { rewrite ^/tls/(.*)$ https://127.0.0.1:{{tlsPort}}/$1 redirect; }
                location /query    { rewrite ^ /$arg_x? last; }
                location = /loop   { return 302 /loop; }
                location = /busy   { return 503; }
                location = /gone   { return 410; }
                {{more}}
              }
            }
            """);
        _process = new ServerProcess("nginx", ["-c", _own.File("nginx.conf")], certificates is null ? [Port] : [Port, tlsPort]);
    }

    /// <summary>Of HTTP.</summary>
    public int Port { get; }

    /// <summary>Of HTTPS, or 0.</summary>
    public int TlsPort { get; }

    /// <summary>The process.</summary>
    public ServerProcess Process => _process;

    /// <summary>Lines of the access log: every request that is over.</summary>
    public string[] Requests => File.ReadAllLines(_own.File("access.log"));

    /// <summary>A URL.</summary>
    public string Url(string path, string login = "") => $"http://{login}127.0.0.1:{Port}/{path}";

    /// <summary>A URL over TLS.</summary>
    public string TlsUrl(string path) => $"https://127.0.0.1:{TlsPort}/{path}";

    /// <inheritdoc/>
    public void Dispose()
    {
        _process.Dispose();
        _own.Dispose();
    }
}
