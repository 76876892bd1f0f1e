using System.Globalization;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Http;

/// <summary>What tells one state of a file on a server from another.</summary>
/// <param name="Length">Bytes.</param>
/// <param name="Tag">Header ETag as sent, or null.</param>
/// <param name="Modified">Header Last-Modified as sent, or null.</param>
internal sealed record HttpFileVersion(long Length, string? Tag, string? Modified)
{
    /// <summary>
    /// What the server is to compare before it sends a part: a strong tag, else the date; null where neither is safe.
    /// RFC 9110, section 13.1.5.
    /// </summary>
    public string? IfRange => Tag is null ? Modified : Tag.StartsWith("W/", StringComparison.Ordinal) ? null : Tag;

    /// <summary>
    /// What may be kept under: a strong tag; else the date, and a weak tag with it. A weak tag alone does not say that every
    /// byte is the same (RFC 9110, section 8.8.1). Where there is a date, it counts for a strong tag too: nginx, for one,
    /// makes such tags of the second of the last change and the length.
    /// </summary>
    public RemoteVersion? ToRemoteVersion()
    {
        bool isStrong = Tag is { Length: > 0 } && !Tag.StartsWith("W/", StringComparison.Ordinal);
        if (Modified is null || !DateTimeOffset.TryParseExact(
            Modified, "r", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out DateTimeOffset time))
        {
            return isStrong ? new RemoteVersion($"ETag {Tag}", IsStrong: true) : null;
        }

        return new RemoteVersion(
            isStrong ? $"ETag {Tag}" : Tag is null ? $"modified {Modified}" : $"modified {Modified}, ETag {Tag}",
            IsStrong: false, time);
    }

    /// <summary>Why another answer is not of the same state; null when it may be. What it does not say is no difference.</summary>
    public string? DifferenceTo(long? length, string? tag, string? modified) =>
        length is not null && length != Length
            ? string.Create(CultureInfo.InvariantCulture, $"it has {length} bytes instead of {Length}")
            : tag is not null && Tag is not null && tag != Tag ? "its ETag is another"
            : modified is not null && Modified is not null && modified != Modified ? "it was modified"
            : null;
}
