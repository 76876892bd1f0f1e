using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Http;

/// <summary>The header of an answer, checked. RFC 9110, sections 14 and 15.</summary>
internal readonly struct HttpReply(HttpResponseMessage response, HttpPlace place)
{
    /// <summary>Status code.</summary>
    public int Status => (int)response.StatusCode;

    /// <summary>True when another address is named.</summary>
    public bool IsRedirect => Status is 301 or 302 or 303 or 307 or 308;

    /// <summary>True when the same request may succeed a little later.</summary>
    public bool IsTemporary => Status is 408 or 425 or 429 or 500 or 502 or 503 or 504;

    /// <summary>Header ETag as sent.</summary>
    public string? Tag => Header("ETag");

    /// <summary>Header Last-Modified as sent.</summary>
    public string? Modified => Header("Last-Modified");

    /// <summary>Length of the body, where the server says it.</summary>
    public long? BodyLength => response.Content.Headers.ContentLength;

    /// <summary>What `Retry-After` asks for in seconds, or null.</summary>
    public TimeSpan? RetryAfter =>
        int.TryParse(Header("Retry-After"), NumberStyles.None, CultureInfo.InvariantCulture, out int seconds)
            ? TimeSpan.FromSeconds(seconds) : null;

    /// <summary>Where a redirection leads.</summary>
    public HttpPlace Follow() => place.Follow(Header("Location")
        ?? throw Invalid("redirects to nowhere (there is no Location)"));

    /// <summary>The range that a 206 holds: first and last byte, and the length of the file where it is told.</summary>
    public (long First, long Last, long? Total) Range()
    {
        if (response.Content.Headers.NonValidated.TryGetValues("Content-Type", out HeaderStringValues types)
            && types.ToString().StartsWith("multipart/", StringComparison.OrdinalIgnoreCase))
        {
            throw Invalid("answered with several parts, and one was asked for");
        }

        CheckEncoding();
        string? text = Header("Content-Range");
        string[] parts = text?.Split(' ', 2) ?? [];
        string[] sides = parts.Length == 2 ? parts[1].Split('/', 2) : [];
        string[] ends = sides.Length == 2 ? sides[0].Split('-', 2) : [];
        if (ends.Length != 2 || !parts[0].Equals("bytes", StringComparison.OrdinalIgnoreCase)
            || !TryNumber(ends[0], out long first) || !TryNumber(ends[1], out long last) || last < first
            || !TryTotal(sides[1], out long? total) || last >= total || last - first == long.MaxValue)
        {
            throw Invalid("sent a part without saying properly which one (Content-Range)", text);
        }

        if (BodyLength is { } length && length != last - first + 1)
        {
            throw Invalid("announced a part and sent another length (Content-Length)", $"{length} for '{text}'");
        }

        return (first, last, total);
    }

    /// <summary>Length of the file that a 416 tells; null when it does not.</summary>
    public long? LengthOfUnsatisfied()
    {
        string? text = Header("Content-Range");
        return text is not null && text.StartsWith("bytes */", StringComparison.OrdinalIgnoreCase)
            && TryNumber(text["bytes */".Length..], out long length) ? length : null;
    }

    /// <summary>Compressed on the way: the bytes would not be those of the file.</summary>
    public void CheckEncoding()
    {
        string? encoding = Header("Content-Encoding");
        if (!string.IsNullOrWhiteSpace(encoding) && !encoding.Equals("identity", StringComparison.OrdinalIgnoreCase))
        {
            throw new BlockException(
                BlockErrorKind.NotSupported, $"{place.Shown}: the server sends it encoded, though plain bytes were asked for")
            {
                Found = $"Content-Encoding: {Show(encoding)}",
                Hint = "Turn compression off for this file on the server.",
            };
        }
    }

    /// <summary>What a status means that is neither success nor redirection.</summary>
    public BlockException Refusal() => Status switch
    {
        401 => new BlockException(BlockErrorKind.PermissionDenied, $"{place.Shown}: the server wants another user name or password")
        {
            Found = Numbered,
            Hint = "Give them with the options username and password-secret, in the URL, or in ~/.netrc.",
        },
        407 => new BlockException(BlockErrorKind.PermissionDenied, "the proxy wants another user name or password")
        {
            Found = Numbered,
            Hint = "Give them with the options proxy-username and proxy-password-secret.",
        },
        403 => new BlockException(BlockErrorKind.PermissionDenied, $"{place.Shown}: the server does not allow it")
        {
            Found = Numbered,
        },
        404 or 410 => new BlockException(BlockErrorKind.NotFound, $"{place.Shown}: there is no such file on the server")
        {
            Found = Numbered,
        },
        _ => new BlockException(BlockErrorKind.IoError, $"{place.Shown}: the server refuses the request") { Found = Numbered },
    };

    /// <summary>An answer that breaks the protocol.</summary>
    public BlockException Invalid(string what, string? found = null) => new(
        BlockErrorKind.InvalidData, $"{place.Shown}: the server {what}")
    {
        Found = found is null ? null : Show(found),
    };

    private string Numbered => $"HTTP status {Status}";

    private static string Show(string text) =>
        string.Concat(text.Take(100).Select(c => char.IsControl(c) || c > '~' ? '?' : c));

    private static bool TryTotal(string text, out long? total)
    {
        bool isNumber = TryNumber(text, out long number);
        total = isNumber ? number : null;
        return isNumber || text == "*";
    }

    private static bool TryNumber(string text, out long value) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    private string? Header(string name) =>
        response.Headers.NonValidated.TryGetValues(name, out HeaderStringValues values)
        || response.Content.Headers.NonValidated.TryGetValues(name, out values)
            ? values.ToString().Trim() : null;
}
