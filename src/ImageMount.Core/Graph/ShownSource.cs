using System.Text.RegularExpressions;

namespace ImageMount.Core.Graph;

/// <summary>
/// What may be shown of a source or a reference: passwords before the '@' of a URL, what follows the '?' of a web address or
/// of an iSCSI disk, cookies and passwords are left out, also where they stand in options or JSON.
/// </summary>
public static partial class ShownSource
{
    /// <summary>The text without secrets.</summary>
    public static string Of(string source)
    {
        if (source.Contains("://", StringComparison.Ordinal))
        {
            source = UserInfo().Replace(source, match =>
                match.Groups[2].Value.AsSpan().ContainsAny(':', '%') ? match.Groups[1].Value : match.Value);
            source = WebQuery().Replace(source, "$1?…");
        }

        return source.Contains("cookie", StringComparison.OrdinalIgnoreCase)
            || source.Contains("password", StringComparison.OrdinalIgnoreCase) ? Plain().Replace(source, "$1…") : source;
    }

    [GeneratedRegex("""([a-z][a-z0-9+.\-]*://)([^/?\s"]*)@""", RegexOptions.IgnoreCase | RegexOptions.NonBacktracking)]
    private static partial Regex UserInfo();

    [GeneratedRegex(
        """((?:https?|ftps?|iscsi)://[^?\s"]*)\?[^\s"',]*""", RegexOptions.IgnoreCase | RegexOptions.NonBacktracking)]
    private static partial Regex WebQuery();

    [GeneratedRegex(
        """((?:cookie|password)"?\s*[=:]\s*"?)[^",}]*""", RegexOptions.IgnoreCase | RegexOptions.NonBacktracking)]
    private static partial Regex Plain();
}
