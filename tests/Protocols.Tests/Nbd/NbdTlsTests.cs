using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>TLS by certificates and by pre-shared keys, against nbdkit.</summary>
public sealed class NbdTlsTests : NbdTestBase
{
    private NbdServer? _server;

    public override void Dispose()
    {
        _server?.Dispose();
        base.Dispose();
    }

    [SkippableFact]
    public async Task Certificates_that_match_are_accepted_and_others_refused()
    {
        Require.Tool("openssl");
        string good = MakeCertificates("good", "localhost");
        string other = MakeCertificates("other", "localhost");
        string file = Dir.Write("disk.raw", MakeContent());
        _server = NbdServer.Kit(
            Dir, "--tls=require", $"--tls-certificates={good}", "--tls-verify-peer", "file", file);
        string uri = Secure(_server.Uri());
        using (var secrets = new SecretStore())
        {
            secrets.AddTls(new TlsX509Credentials { Id = "t", Directory = good });
            await using Graph graph = await OpenAsync(
                _server.Uri(), writable: true, secrets, ("tls-creds", "t"));
            await AssertContentAsync(graph.Root, MakeContent(), "tls");
            await graph.Root.WriteAsync(0, new byte[100_000]);
            await graph.Root.FlushAsync();
        }

        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "certificate", () => OpenAsync(uri, options: ("tls-certificates", other)));
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "not for 'example.com'",
            () => OpenAsync(uri, options: [("tls-certificates", good), ("tls-hostname", "example.com")]));
        await AssertRefusedAsync(BlockErrorKind.PermissionDenied, "nbds:", () => OpenAsync(_server.Uri()));
        File.Delete(Path.Combine(good, "client-cert.pem"));
        File.Delete(Path.Combine(good, "client-key.pem"));
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "client-cert.pem", () => OpenAsync(uri, options: ("tls-certificates", good)));
    }

    [SkippableFact]
    public async Task A_key_that_both_know_is_accepted_and_another_refused()
    {
        Skip.IfNot(Interop.GnuTlsLibrary.IsAvailable, "libgnutls is not installed");
        string keys = Dir.Write("keys.psk", "alice:00112233445566778899aabbccddeeff\nqemu:ffeeddccbbaa99887766554433221100\n"u8);
        string wrong = Dir.Write("wrong.psk", "alice:10112233445566778899aabbccddeeff\n"u8);
        string file = Dir.Write("disk.raw", MakeContent());
        _server = NbdServer.Kit(Dir, "--tls=require", $"--tls-psk={keys}", "file", file);
        byte[] model = MakeContent();
        await using (Graph graph = await OpenAsync(
            _server.Uri(), writable: true, null, ("tls-psk-file", keys), ("tls-username", "alice")))
        {
            await AssertContentAsync(graph.Root, model, "psk");
            TestPattern.Fill(model.AsSpan(0, 400_000), 0, 4);
            await Task.WhenAll(Enumerable.Range(0, 8).Select(
                i => graph.Root.WriteAsync(i * 50_000, model.AsMemory(i * 50_000, 50_000)).AsTask())).WaitAsync(Limit);
            await AssertContentAsync(graph.Root, model, "psk, written");
        }

        using var secrets = new SecretStore();
        secrets.AddTls(new TlsPskCredentials { Id = "p", Directory = Dir.Path });
        await using (Graph graph = await OpenAsync(_server.Uri(), false, secrets, ("tls-creds", "p")))
        {
            await AssertContentAsync(graph.Root, model, "psk by object");
        }

        BlockException e = await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "handshake",
            () => OpenAsync(_server.Uri(), options: [("tls-psk-file", wrong), ("tls-username", "alice")]));
        Assert.DoesNotContain("10112233", e.ToString(), StringComparison.Ordinal);
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "no key for 'bob'",
            () => OpenAsync(_server.Uri(), options: [("tls-psk-file", keys), ("tls-username", "bob")]));
    }

    [SkippableFact]
    public async Task A_server_without_tls_is_not_talked_to_in_plain_text()
    {
        _server = NbdServer.Kit(Dir, "--tls=off", "memory", "1M");
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "TLS is asked for", () => OpenAsync(Secure(_server.Uri())));
    }

    private static string Secure(string uri) => uri.Replace("nbd+unix", "nbds+unix", StringComparison.Ordinal);

    /// <summary>An authority, and certificates of a server and a client from it.</summary>
    private string MakeCertificates(string name, string host)
    {
        string folder = Directory.CreateDirectory(Dir.File(name)).FullName;
        string In(string file) => Path.Combine(folder, file);
        string[] Key(string file) => ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", In(file)];
        Qemu.Succeed("openssl", [
            "req", "-x509", .. Key("ca-key.pem"), "-days", "30", "-subj", $"/CN={name} authority", "-out", In("ca-cert.pem"),
            "-addext", "basicConstraints=critical,CA:TRUE"]);
        foreach ((string role, string usage) in (IEnumerable<(string, string)>)
            [("server", "serverAuth"), ("client", "clientAuth")])
        {
            string extensions = In($"{role}.ext");
            File.WriteAllText(extensions, $"subjectAltName=DNS:{host}\nextendedKeyUsage={usage}\n");
            Qemu.Succeed("openssl", [
                "req", .. Key($"{role}-key.pem"), "-subj", $"/CN={host}", "-out", In($"{role}.csr")]);
            Qemu.Succeed("openssl", [
                "x509", "-req", "-in", In($"{role}.csr"), "-CA", In("ca-cert.pem"), "-CAkey", In("ca-key.pem"),
                "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", In($"{role}-cert.pem")]);
        }

        return folder;
    }
}
