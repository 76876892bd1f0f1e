using ImageMount.TestSupport.Servers;

namespace ImageMount.Conformance.Tests;

/// <summary>A disk on an FTP server of our own, through transfers that go on.</summary>
public sealed class FtpConformance : ConformanceReading, IDisposable
{
    private FakeFtpServer? _server;

    public override string Driver => "ftp";

    protected override bool IsWritable => false;

    public void Dispose() => _server?.Dispose();

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        _server = new FakeFtpServer(File.ReadAllBytes(rawFile));
        var map = new OptionMap();
        map.Set("driver", "ftp");
        map.Set("url", _server.Url);
        return map;
    }
}

/// <summary>
/// With TLS, by proftpd, through exact ranges. Not the whole suite: each of its many small reads would be a handshake.
/// </summary>
public sealed class FtpsConformance : ConformanceBase, IDisposable
{
    private readonly TempDir _keys = new();
    private FtpServer? _server;

    public override string Driver => "ftps";

    protected override bool IsWritable => false;

    public void Dispose()
    {
        _server?.Dispose();
        _keys.Dispose();
    }

    [SkippableFact]
    public async Task Read_whole_disk_at_once()
    {
        await using Fixture f = await StartAsync(writable: false);
        await AssertContentAsync(f.Disk, f.Content, "whole disk");
    }

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        var certificates = new TestCertificates(_keys);
        _server = new FtpServer(Path.GetDirectoryName(rawFile)!, certificates);
        File.Copy(certificates.Authority, dir.File("trusted.pem"));
        var map = new OptionMap();
        map.Set("driver", "ftps");
        map.Set("url", _server.TlsUrl(Path.GetFileName(rawFile)));
        map.Set("cacert", dir.File("trusted.pem"));
        return map;
    }
}
