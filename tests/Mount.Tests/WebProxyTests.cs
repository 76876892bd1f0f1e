using System.Security.Cryptography.X509Certificates;
using ImageMount.Mount.Tests.Support;
using ImageMount.TestSupport.Servers;
using Xunit;
using TempDir = ImageMount.TestSupport.TempDir;

namespace ImageMount.Mount.Tests;

/// <summary>
/// Web servers behind a proxy that wants a login. Proxies come from the environment, so these are runs of the program.
/// </summary>
public sealed class WebProxyTests : IDisposable
{
    private readonly TempDir _dir = new();
    private readonly byte[] _content = DiskContent.Make(21, 300_000);
    private readonly FakeWebProxy _proxy = new("petra", "geheim");
    private readonly FakeWebServer _plain;
    private readonly FakeWebServer _secure;
    private readonly TestCertificates _certificates;

    public WebProxyTests()
    {
        _certificates = new TestCertificates(_dir);
        _plain = new FakeWebServer(_content);
        _secure = new FakeWebServer(
            _content, X509Certificate2.CreateFromPemFile(_certificates.Certificate("server"), _certificates.Key("server")));
    }

    public void Dispose()
    {
        _proxy.Dispose();
        _plain.Dispose();
        _secure.Dispose();
        _dir.Dispose();
    }

    [Fact]
    public void A_plain_server_is_read_through_a_proxy_that_wants_a_login()
    {
        ToolResult result = Convert("http", _plain, "", Login());
        Assert.True(result.ExitCode == 0, result.ToString());
        DiskContent.AssertEqual(_content, File.ReadAllBytes(_dir.File("out.raw")), "through the proxy");
        Assert.All(_proxy.Passed, header => Assert.StartsWith($"GET {_plain.Url()} ", header, StringComparison.Ordinal));
        Assert.NotEmpty(_proxy.Passed);
        Assert.True(_proxy.Refused < 20, $"{_proxy.Refused} requests without the login");
    }

    [Fact]
    public void A_server_over_TLS_never_sees_the_login_of_the_proxy_nor_the_proxy_that_of_the_server()
    {
        string basic = "Basic " + System.Convert.ToBase64String("alice:secret"u8);
        _secure.Answer = request => request["Authorization"] == basic ? _secure.Usual(request) : FakeWebServer.Reply(
            "HTTP/1.1 401 Who\nWWW-Authenticate: Basic realm=\"x\"\nContent-Length: 0", []);
        string password = _dir.Write("server-password", "secret"u8);
        ToolResult result = Convert(
            "https", _secure, $",\"cacert\":\"{_certificates.Authority}\",\"username\":\"alice\",\"password-secret\":\"server\"",
            [.. Login(), "--object", $"secret,id=server,file={password}"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        DiskContent.AssertEqual(_content, File.ReadAllBytes(_dir.File("out.raw")), "through a tunnel");
        Assert.NotEmpty(_proxy.Passed);
        Assert.All(_proxy.Passed, header => Assert.StartsWith($"CONNECT {_secure.Peer} ", header, StringComparison.Ordinal));
        Assert.All(_proxy.Passed, header => Assert.DoesNotContain(basic, header, StringComparison.Ordinal));
        Assert.Contains(_secure.Requests, request => request["Authorization"] == basic);
        Assert.All(_secure.Requests, request => Assert.Null(request["Proxy-Authorization"]));
    }

    [Fact]
    public void A_server_that_needs_no_proxy_never_sees_its_login()
    {
        ToolResult result = Convert("http", _plain, "", Login(), "no_proxy=127.0.0.1");
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Empty(_proxy.Passed);
        Assert.Equal(0, _proxy.Refused);
        Assert.NotEmpty(_plain.Requests);
        Assert.All(_plain.Requests, request => Assert.Null(request["Proxy-Authorization"]));
    }

    [Theory]
    [InlineData("http")]
    [InlineData("https")]
    public void A_wrong_login_is_told_and_not_shown(string scheme)
    {
        string wrong = _dir.Write("wrong", "verkehrt"u8);
        ToolResult result = Convert(
            scheme, scheme == "http" ? _plain : _secure, $",\"cacert\":\"{_certificates.Authority}\"",
            ["--object", $"secret,id=proxy,file={wrong}"]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("proxy", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("verkehrt", result.Output + result.Error, StringComparison.Ordinal);
        Assert.Empty(_plain.Requests);
        Assert.Empty(_secure.Requests);
        Assert.False(File.Exists(_dir.File("out.raw")));
    }

    private string[] Login() => ["--object", $"secret,id=proxy,file={_dir.Write("proxy-password", "geheim"u8)}"];

    /// <summary>Copies the disk to out.raw.</summary>
    private ToolResult Convert(
        string scheme, FakeWebServer server, string options, string[] objects, string more = "no_proxy=") => Tool.Try(
        "env", ["-u", "HTTP_PROXY", "-u", "HTTPS_PROXY", $"{scheme}_proxy={_proxy.Url}", more, Tool.Imgmount, "convert",
            "-O", "raw", .. objects,
            $"json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"{scheme}\",\"url\":\"{server.Url()}\","
                + $"\"proxy-username\":\"petra\",\"proxy-password-secret\":\"proxy\"{options}}}}}",
            _dir.File("out.raw")]);
}
