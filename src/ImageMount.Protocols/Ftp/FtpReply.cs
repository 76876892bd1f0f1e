using ImageMount.Core.Block;

namespace ImageMount.Protocols.Ftp;

/// <summary>A reply of the server, whole: code, and the text of its lines without code. RFC 959, section 4.2.</summary>
/// <param name="Code">100 to 599.</param>
/// <param name="Lines">At least one.</param>
internal sealed record FtpReply(int Code, IReadOnlyList<string> Lines)
{
    /// <summary>More is to follow.</summary>
    public bool IsPreliminary => Code < 200;

    /// <summary>Done.</summary>
    public bool IsDone => Code is >= 200 and < 300;

    /// <summary>Go on with the next command.</summary>
    public bool IsMore => Code is >= 300 and < 400;

    /// <summary>The text of the last line.</summary>
    public string Text => Lines[^1];

    /// <summary>What a refusal means.</summary>
    /// <param name="target">The file.</param>
    /// <param name="what">What was asked for: "to log in", "RETR".</param>
    public BlockException Refusal(FtpTarget target, string what)
    {
        string found = $"{Code} {Show(Text)}";
        return Code switch
        {
            530 or 430 => new BlockException(
                BlockErrorKind.PermissionDenied, $"{target.Peer}: the server wants another user name or password")
            {
                Found = found,
                Hint = "Give them with the options username and password-secret, in the URL, or in ~/.netrc. "
                    + "Some servers also answer so to who does not use TLS (tls=explicit).",
            },
            534 or 522 or 521 or 425 => new BlockException(
                BlockErrorKind.IoError, $"{target.Peer}: the server does not open a data connection")
            { Found = found },
            550 => new BlockException(
                BlockErrorKind.NotFound, $"{target.Shown}: there is no such file on the server, or it may not be read")
            {
                Found = found,
            },
            _ => new BlockException(BlockErrorKind.IoError, $"{target.Shown}: the server refuses {what}") { Found = found },
        };
    }

    private static string Show(string text) =>
        string.Concat(text.Take(100).Select(c => char.IsControl(c) || c > '~' ? '?' : c));
}
