using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// An authority of a test's own, and certificates by it, as PEM files: ca-cert.pem, server-cert.pem and -key (for
/// localhost and 127.0.0.1), other-cert.pem and -key (for another host), old-cert.pem and -key (expired).
/// </summary>
public sealed class TestCertificates
{
    private readonly X509Certificate2 _authority;

    /// <summary>Makes them in a folder.</summary>
    public TestCertificates(TempDir dir)
    {
        Folder = dir.Path;
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=Test authority", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
        _authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddYears(-2), DateTimeOffset.UtcNow.AddYears(10));
        File.WriteAllText(Authority, _authority.ExportCertificatePem());
        Make("server", DateTimeOffset.UtcNow.AddYears(5), "localhost", IPAddress.Loopback);
        Make("other", DateTimeOffset.UtcNow.AddYears(5), "other.invalid", null);
        Make("old", DateTimeOffset.UtcNow.AddDays(-1), "localhost", IPAddress.Loopback);
    }

    /// <summary>The folder.</summary>
    public string Folder { get; }

    /// <summary>File of the authority's certificate.</summary>
    public string Authority => Path.Combine(Folder, "ca-cert.pem");

    /// <summary>File of a certificate.</summary>
    public string Certificate(string name) => Path.Combine(Folder, $"{name}-cert.pem");

    /// <summary>File of its key.</summary>
    public string Key(string name) => Path.Combine(Folder, $"{name}-key.pem");

    private void Make(string name, DateTimeOffset until, string host, IPAddress? address)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={host}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(host);
        if (address is not null)
        {
            names.AddIpAddress(address);
        }

        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1")], false));
        using X509Certificate2 certificate = request.Create(
            _authority, DateTimeOffset.UtcNow.AddYears(-1), until, RandomNumberGenerator.GetBytes(8));
        File.WriteAllText(Certificate(name), certificate.ExportCertificatePem());
        File.WriteAllText(Key(name), key.ExportPkcs8PrivateKeyPem());
    }
}
