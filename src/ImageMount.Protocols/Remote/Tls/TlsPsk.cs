using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Interop;

namespace ImageMount.Protocols.Remote.Tls;

/// <summary>TLS by a key that both sides know, which SslStream cannot do: through GnuTLS.</summary>
internal sealed class TlsPsk
{
    private const int MaxFile = 1 << 20;
    private readonly string _user;
    private readonly Secret _key;

    private TlsPsk(string user, Secret key)
    {
        _user = user;
        _key = key;
    }

    /// <summary>Finds the user's key.</summary>
    public static TlsPsk Read(TlsPskCredentials credentials)
    {
        if (!GnuTlsLibrary.IsAvailable)
        {
            throw new BlockException(
                BlockErrorKind.NotSupported, $"TLS with pre-shared keys needs {GnuTlsLibrary.FileName}, which is not installed")
            {
                Hint = $"Install the package {GnuTlsLibrary.DebianPackage}.",
            };
        }

        string path = credentials.KeyFile ?? Path.Combine(credentials.Directory ?? ".", "keys.psk");
        try
        {
            if (new FileInfo(path).Length > MaxFile)
            {
                throw BlockException.Limit($"{path} is too large for a file of keys", new FileInfo(path).Length, MaxFile);
            }

            foreach (string line in File.ReadLines(path))
            {
                int colon = line.IndexOf(':');
                if (colon > 0 && line[..colon] == credentials.UserName)
                {
                    string key = line[(colon + 1)..].Trim();
                    return key.Length > 0 && key.All(char.IsAsciiHexDigit)
                        ? new TlsPsk(credentials.UserName, new Secret(System.Text.Encoding.ASCII.GetBytes(key)))
                        : throw new BlockException(
                            BlockErrorKind.InvalidData, $"the key of '{credentials.UserName}' in {path} is not hexadecimal");
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(
                e is UnauthorizedAccessException ? BlockErrorKind.PermissionDenied : BlockErrorKind.NotFound,
                $"the keys for TLS in {path} cannot be read: {e.Message.TrimEnd('.')}", e);
        }

        throw new BlockException(BlockErrorKind.NotFound, $"{path} has no key for '{credentials.UserName}'")
        {
            Hint = "Name the user with username= of tls-creds-psk, or nbds://USER@host.",
        };
    }

    /// <summary>Makes a connection secure.</summary>
    public async Task<Stream> SecureAsync(Stream inner, string peer, CancellationToken cancellationToken)
    {
        var stream = new GnuTlsStream(inner, GnuTlsSession.CreatePskClient(_user, _key.Span));
        try
        {
            await stream.HandshakeAsync(cancellationToken).ConfigureAwait(false);
            return stream;
        }
        catch (Exception e) when (NetworkErrors.IsNetwork(e))
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw new BlockException(
                BlockErrorKind.PermissionDenied, $"the TLS handshake with {peer} failed: {e.Message.TrimEnd('.')}", e)
            {
                Hint = "Both sides must have the same key for the same user, and the server must take pre-shared keys.",
            };
        }
    }
}
