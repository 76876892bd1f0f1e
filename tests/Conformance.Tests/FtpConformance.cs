using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>A disk on an FTP server of our own, through transfers that go on.</summary>
public class FtpConformance : ConformanceReading, IDisposable
{
    private FakeFtpServer? _server;

    public override string Driver => "ftp";

    protected override bool IsWritable => false;

    protected virtual string Feature => "UTF8";

    public void Dispose()
    {
        _server?.Dispose();
        GC.SuppressFinalize(this);
    }

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        _server = new FakeFtpServer(File.ReadAllBytes(rawFile));
        _server.Features.Add(Feature);
        var map = new OptionMap();
        map.Set("driver", "ftp");
        map.Set("url", _server.Url);
        return map;
    }
}

/// <summary>Through exact ranges.</summary>
public class FtpRangeConformance : FtpConformance
{
    protected override string Feature => "RANG STREAM";
}

/// <summary>With TLS, by proftpd.</summary>
public sealed class FtpsConformance : ConformanceReading, IDisposable
{
    private FtpServer? _server;

    public override string Driver => "ftps";

    protected override bool IsWritable => false;

    public void Dispose() => _server?.Dispose();

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        using var keys = new TempDir();
        var certificates = new TestCertificates(keys);
        _server = new FtpServer(Path.GetDirectoryName(rawFile)!, certificates);
        File.Copy(certificates.Authority, dir.File("trusted.pem"));
        var map = new OptionMap();
        map.Set("driver", "ftps");
        map.Set("url", _server.TlsUrl(Path.GetFileName(rawFile)));
        map.Set("cacert", dir.File("trusted.pem"));
        return map;
    }
}
