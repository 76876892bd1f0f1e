using System.Security.Cryptography.X509Certificates;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>A disk on a web server of our own.</summary>
public sealed class HttpConformance : ConformanceReading, IDisposable
{
    private FakeWebServer? _server;

    public override string Driver => "http";

    protected override bool IsWritable => false;

    public void Dispose() => _server?.Dispose();

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        _server = new FakeWebServer(File.ReadAllBytes(rawFile));
        var map = new OptionMap();
        map.Set("driver", "http");
        map.Set("url", _server.Url());
        return map;
    }
}

/// <summary>The same over TLS.</summary>
public sealed class HttpsConformance : ConformanceReading, IDisposable
{
    private FakeWebServer? _server;

    public override string Driver => "https";

    protected override bool IsWritable => false;

    public void Dispose() => _server?.Dispose();

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        using var folder = new TempDir();
        var files = new TestCertificates(folder);
        using var pem = X509Certificate2.CreateFromPemFile(files.Certificate("server"), files.Key("server"));
        string authority = folder.File("ca-cert.pem");
        File.Copy(authority, dir.File("trusted.pem"));
        _server = new FakeWebServer(
            File.ReadAllBytes(rawFile), X509CertificateLoader.LoadPkcs12(pem.Export(X509ContentType.Pfx), null));
        var map = new OptionMap();
        map.Set("driver", "https");
        map.Set("url", _server.Url());
        map.Set("cacert", dir.File("trusted.pem"));
        return map;
    }
}
