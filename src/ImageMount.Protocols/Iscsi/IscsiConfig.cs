using System.Globalization;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Iscsi;

/// <summary>
/// Defaults for targets, from a file as QEMU's `-readconfig` takes it: a section <c>[iscsi "target-iqn"]</c> for one
/// target, <c>[iscsi]</c> for all that have none, lines of <c>key = "value"</c>. Other sections are none of our business.
/// </summary>
internal sealed record IscsiConfig
{
    private const int MaxBytes = 1 << 20;
    private static readonly string[] Keys =
        ["user", "password", "password-secret", "header-digest", "initiator-name", "timeout"];

    /// <summary>User name for CHAP.</summary>
    public string? User { get; init; }

    /// <summary>Password for CHAP. Never to be shown.</summary>
    public string? Password { get; init; }

    /// <summary>Id of a secret with the password.</summary>
    public string? PasswordSecret { get; init; }

    /// <summary>As the option.</summary>
    public IscsiHeaderDigest? HeaderDigest { get; init; }

    /// <summary>As the option.</summary>
    public string? InitiatorName { get; init; }

    /// <summary>As the option.</summary>
    public int? Timeout { get; init; }

    /// <inheritdoc/>
    public override string ToString() => "(iscsi configuration)";

    /// <summary>What a file says of a target; nothing where it has no section for it.</summary>
    public static IscsiConfig Read(string path, string target)
    {
        try
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var bytes = new byte[MaxBytes + 1];
            int count = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return count <= MaxBytes ? Parse(Encoding.UTF8.GetString(bytes, 0, count), path, target)
                : throw BlockException.Limit($"{path} is too long", count, MaxBytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(
                BlockErrorKind.NotFound, $"the iSCSI configuration {path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>What the text of such a file says of a target.</summary>
    internal static IscsiConfig Parse(string text, string path, string target)
    {
        Dictionary<string, string>? general = null;
        Dictionary<string, string>? own = null;
        Dictionary<string, string>? current = null;
        int number = 0;
        foreach (string raw in text.Split('\n'))
        {
            number++;
            string line = raw.Trim();
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }

            if (line[0] == '[')
            {
                string? name = SectionOf(line) ?? throw Wrong(path, number, "a section is [name] or [name \"id\"]");
                current = name.Length == 0 ? general ??= [] : name == "\"" + target ? own ??= [] : null;
                continue;
            }

            (string key, string value) = PairOf(line) ?? throw Wrong(path, number, "a line is key = \"value\"");
            if (current is null)
            {
                continue;
            }

            if (!Keys.Contains(key) || !current.TryAdd(key, value))
            {
                throw Wrong(path, number, $"'{key}' is not known there, or given twice");
            }
        }

        return Make(own ?? general ?? [], path);
    }

    /// <summary>
    /// Empty for [iscsi], a quote and the id for [iscsi "id"], a space for others, null for what is no section.
    /// </summary>
    private static string? SectionOf(string line)
    {
        if (line[^1] != ']')
        {
            return null;
        }

        string inner = line[1..^1].Trim();
        int quote = inner.IndexOf('"');
        string name = quote < 0 ? inner : inner[..quote].TrimEnd();
        if (quote >= 0 && (inner.Length < quote + 2 || inner[^1] != '"'))
        {
            return null;
        }

        return name.Length == 0 ? null : name != "iscsi" ? " " : quote < 0 ? "" : "\"" + inner[(quote + 1)..^1];
    }

    private static (string Key, string Value)? PairOf(string line)
    {
        int equals = line.IndexOf('=');
        string value = equals < 0 ? "" : line[(equals + 1)..].Trim();
        return equals > 0 && value.Length >= 2 && value[0] == '"' && value[^1] == '"'
            ? (line[..equals].Trim(), value[1..^1]) : null;
    }

    private static IscsiConfig Make(Dictionary<string, string> values, string path)
    {
        int? timeout = null;
        if (values.TryGetValue("timeout", out string? seconds))
        {
            timeout = int.TryParse(seconds, NumberStyles.None, CultureInfo.InvariantCulture, out int parsed)
                && parsed <= 86400 ? parsed : throw Wrong(path, null, "'timeout' is a number of seconds from 0 to 86400");
        }

        return new IscsiConfig
        {
            User = values.GetValueOrDefault("user"),
            Password = values.GetValueOrDefault("password"),
            PasswordSecret = values.GetValueOrDefault("password-secret"),
            InitiatorName = values.GetValueOrDefault("initiator-name"),
            Timeout = timeout,
            HeaderDigest = values.GetValueOrDefault("header-digest")?.ToLowerInvariant() switch
            {
                null => null,
                "none" => IscsiHeaderDigest.None,
                "none-crc32c" => IscsiHeaderDigest.NoneCrc32C,
                "crc32c-none" => IscsiHeaderDigest.Crc32CNone,
                "crc32c" => IscsiHeaderDigest.Crc32C,
                _ => throw Wrong(path, null, "'header-digest' is none, none-crc32c, crc32c-none or crc32c"),
            },
        };
    }

    /// <summary>Does not show the line: a password may stand in it.</summary>
    private static BlockException Wrong(string path, int? line, string why) => new(
        BlockErrorKind.InvalidArgument,
        $"the iSCSI configuration {path}"
        + $"{(line is { } n ? $", line {n.ToString(CultureInfo.InvariantCulture)}" : "")}: {why}");
}
