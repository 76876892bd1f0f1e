using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Protocols.Remote;
using ImageMount.Protocols.Remote.Tls;

namespace ImageMount.Protocols.Ftp;

/// <summary>Where the file is, and all that is needed to get to it, the login included.</summary>
internal sealed class FtpTarget
{
    private const int Port = 21;
    private const int ImplicitPort = 990;
    private const string Expected = "ftp[s]://[user[:password]@]host[:port]/path";

    private readonly TlsTrust? _trust;

    /// <summary>Reads options and files.</summary>
    public FtpTarget(FtpOptions options, string scheme, SecretStore secrets)
    {
        RemoteUri parts = Parse(options.Url, scheme);
        Tls = ModeOf(options, scheme);
        Address = RemoteAddress.Tcp(parts.Host, parts.Port ?? (Tls == FtpTlsMode.Implicit ? ImplicitPort : Port));
        Path = PathOf(parts);
        Shown = parts.Shown;
        Login = Login.Find(
            parts, options.Username, options.PasswordSecret, options.Netrc, $"ftp://{Address.Shown}", secrets)
            ?? new Login { User = "anonymous", Password = "imgmount@" };
        if (Tls != FtpTlsMode.Off)
        {
            _trust = new TlsTrust(options.SslVerify, options.CaCert, options.TlsCreds, parts.Host, secrets);
        }
    }

    /// <summary>How connections are made secure.</summary>
    public FtpTlsMode Tls { get; }

    /// <summary>Where the server listens.</summary>
    public RemoteAddress Address { get; }

    /// <summary>Path for commands; relative to where the login leads, unless it begins with a slash.</summary>
    public string Path { get; }

    /// <summary>What may be shown.</summary>
    public string Shown { get; }

    /// <summary>"host:port".</summary>
    public string Peer => Address.Shown;

    /// <summary>Who we are.</summary>
    public Login Login { get; }

    /// <summary>Checks a URL; the result says where it leads.</summary>
    public static RemoteUri Parse(string url, string scheme)
    {
        RemoteUri parts = RemoteUri.Parse(url, Expected);
        if (parts.Scheme != scheme || parts.Host.Length == 0)
        {
            throw RemoteUri.Wrong(parts.Host.Length == 0 ? "it names no host" : $"it does not begin with '{scheme}://'", Expected);
        }

        PathOf(parts);
        return parts;
    }

    /// <summary>Connects a socket; to <paramref name="address"/>, or to where the server listens.</summary>
    /// <exception cref="LossException">It cannot be reached now.</exception>
    public async Task<NetworkStream> ConnectAsync(RemoteAddress? address, CancellationToken cancellationToken)
    {
        try
        {
            return new NetworkStream(
                await (address ?? Address).ConnectAsync(cancellationToken).ConfigureAwait(false), ownsSocket: true);
        }
        catch (BlockException e)
        {
            throw new LossException(e);
        }
    }

    /// <summary>How the connections of a channel are made secure; null: they are not.</summary>
    /// <param name="lane">Number of the channel.</param>
    public SslClientAuthenticationOptions? MakeTlsOptions(int lane) => _trust?.MakeOptions(lane);

    /// <summary>Makes a connection secure. The stream that is returned owns the other.</summary>
    public async Task<Stream> SecureAsync(
        Stream inner, SslClientAuthenticationOptions options, CancellationToken cancellationToken)
    {
        var stream = new SslStream(inner, leaveInnerStreamOpen: false);
        try
        {
            await stream.AuthenticateAsClientAsync(options, cancellationToken).ConfigureAwait(false);
            return stream;
        }
        catch (AuthenticationException e)
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw _trust!.Explain(e, Peer);
        }
        catch
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private static FtpTlsMode ModeOf(FtpOptions options, string scheme)
    {
        FtpTlsMode mode = options.Tls ?? (scheme == "ftps" ? FtpTlsMode.Implicit : FtpTlsMode.Off);
        return scheme != "ftps" || mode != FtpTlsMode.Off ? mode : throw new BlockException(
            BlockErrorKind.InvalidArgument, "ftps with tls=off makes no sense")
        {
            Hint = "Use ftp://.",
        };
    }

    private static string PathOf(RemoteUri parts)
    {
        // RFC 1738, section 3.2.2: the slash after the host belongs to the URL, not to the path.
        string path = parts.Path.StartsWith('/') ? parts.Path[1..] : parts.Path;
        int type = path.LastIndexOf(";type=", StringComparison.Ordinal);
        path = type < 0 ? path : path[..type];
        return path.Length == 0 ? throw RemoteUri.Wrong("it names no file", Expected)
            : path.AsSpan().ContainsAny('\r', '\n', '\0') ? throw RemoteUri.Wrong("its path has a line end in it", Expected)
            : path;
    }
}
