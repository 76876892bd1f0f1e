using System.Text;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>
/// An address to ask, exactly as the user or the server wrote its path and query, because signatures may cover them.
/// </summary>
internal sealed record HttpPlace
{
    private const string Expected = "http[s]://[user[:password]@]host[:port]/path[?query]";

    /// <summary>For requests.</summary>
    public required Uri Uri { get; init; }

    /// <summary>Without user, password and query: what may be shown.</summary>
    public required string Shown { get; init; }

    /// <summary>Scheme, host and port: whom secrets are for.</summary>
    public string Origin => $"{Uri.Scheme}://{RemoteUri.Bracket(Host)}:{Uri.Port}";

    /// <summary>"host:port", for messages about connections.</summary>
    public string Peer => $"{RemoteUri.Bracket(Host)}:{Uri.Port}";

    private string Host => Uri.IdnHost.Trim('[', ']').ToLowerInvariant();

    /// <summary>Reads what the user gave.</summary>
    public static (HttpPlace Place, RemoteUri Parts) Parse(string url, string scheme)
    {
        RemoteUri parts = RemoteUri.Parse(url, Expected);
        if (parts.Scheme != scheme)
        {
            throw RemoteUri.Wrong($"it does not begin with '{scheme}://'", Expected);
        }

        return (Make(parts) ?? throw RemoteUri.Wrong("it names no host", Expected), parts);
    }

    /// <summary>Where a redirection leads.</summary>
    /// <param name="location">The header, from the server.</param>
    public HttpPlace Follow(string location)
    {
        HttpPlace? next = null;
        try
        {
            string text = location.Contains("://", StringComparison.Ordinal) && !location.StartsWith('/')
                ? location : new Uri(Uri, location).AbsoluteUri;
            next = Make(RemoteUri.Parse(text, Expected));
        }
        catch (Exception e) when (e is UriFormatException or BlockException)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"{Peer} redirects to something that is no URL", e);
        }

        if (next is null || next.Uri.Scheme is not ("http" or "https"))
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"{Peer} redirects to something that is not HTTP");
        }

        if (Uri.Scheme == "https" && next.Uri.Scheme == "http")
        {
            throw new BlockException(
                BlockErrorKind.PermissionDenied, $"{Peer} redirects from https to http, where others can change what is read")
            {
                Hint = "If that is all right, name the http:// URL itself.",
            };
        }

        return next;
    }

    private static HttpPlace? Make(RemoteUri parts)
    {
        if (parts.Host.Length == 0)
        {
            return null;
        }

        string path = parts.RawPathAndQuery.StartsWith('/') ? parts.RawPathAndQuery : "/" + parts.RawPathAndQuery;
        string port = parts.Port is { } number ? $":{number}" : "";
        string text = $"{parts.Scheme}://{RemoteUri.Bracket(parts.Host)}{port}{Escape(path)}";
        return Uri.TryCreate(text, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }, out Uri? uri)
            ? new HttpPlace { Uri = uri, Shown = parts.Shown } : null;
    }

    /// <summary>What may not stand in a request line: spaces, control characters, and all beyond ASCII.</summary>
    private static string Escape(string path)
    {
        if (!path.AsSpan().ContainsAnyExceptInRange('!', '~'))
        {
            return path;
        }

        var text = new StringBuilder();
        foreach (byte b in Encoding.UTF8.GetBytes(path))
        {
            _ = b is >= (byte)'!' and <= (byte)'~' ? text.Append((char)b) : text.Append($"%{b:X2}");
        }

        return text.ToString();
    }
}
