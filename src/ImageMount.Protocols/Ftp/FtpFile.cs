using System.Globalization;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Ftp;

/// <summary>Which state of the file is shown: the one that was found first.</summary>
internal sealed class FtpFile(string shown)
{
    private volatile BlockException? _change;
    private string? _modified;

    /// <summary>Bytes; -1 before the first look.</summary>
    public long Length { get; private set; } = -1;

    /// <summary>
    /// What tells its states apart: the time that MDTM gives (RFC 3659, section 2.3), and who logged in, because the same
    /// path may lead another user elsewhere. Null where the server gives none.
    /// </summary>
    public RemoteVersion? VersionFor(string user)
    {
        string? digits = _modified is { Length: >= 14 } ? _modified[..14] : null;
        return DateTimeOffset.TryParseExact(
            digits, "yyyyMMddHHmmss", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out DateTimeOffset time)
            ? new RemoteVersion($"modified {_modified} (of user {user})", IsStrong: false, time) : null;
    }

    /// <summary>Takes what the server says of the file now; throws when that is another state.</summary>
    public void Accept(long length, string? modified)
    {
        if (Length < 0)
        {
            (Length, _modified) = (length, modified);
        }
        else if (length != Length)
        {
            throw Changed(string.Create(CultureInfo.InvariantCulture, $"it has {length} bytes instead of {Length}"));
        }
        else if (modified is not null && _modified is not null && modified != _modified)
        {
            throw Changed("it was modified");
        }
    }

    /// <summary>Remembers a change, and gives what to throw.</summary>
    public BlockException Changed(string why)
    {
        _change ??= Change(why);
        return Change(why);
    }

    /// <summary>True once another state was seen.</summary>
    public bool HasChanged => _change is not null;

    /// <summary>Throws when the file is another by now.</summary>
    public void ThrowIfChanged()
    {
        if (_change is { } change)
        {
            throw new BlockException(change.Kind, change.Message) { Hint = change.Hint };
        }
    }

    private BlockException Change(string why) => new(
        BlockErrorKind.IoError, $"{shown}: the file has changed on the server since it was opened: {why}")
    {
        Hint = "What was read before belongs to the old one. Unmount, and open it anew.",
    };
}
