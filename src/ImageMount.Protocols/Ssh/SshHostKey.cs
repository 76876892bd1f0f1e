using ImageMount.Core.Block;

namespace ImageMount.Protocols.Ssh;

/// <summary>How the host key is checked: by ssh's known hosts, by a digest, or not.</summary>
/// <param name="Mode">Which way.</param>
/// <param name="Type">Kind of the digest.</param>
/// <param name="Hex">The digest in lower case; empty for other modes.</param>
internal sealed record SshHostKey(SshHostKeyMode Mode, SshHashType Type = SshHashType.Sha256, string Hex = "")
{
    private const string Form = "yes, no, md5:HEX, sha1:HEX, sha256:HEX or what ssh-keygen -l shows (SHA256:…)";

    /// <summary>What the options say.</summary>
    public static SshHostKey Of(SshOptions options)
    {
        bool isLong = options.HostKeyMode is not null || options.HostKeyType is not null || options.HostKeyHash is not null;
        if (options.HostKeyCheck is { } word)
        {
            return isLong
                ? throw Wrong("it is given in two ways", "'host_key_check' or 'host-key-check.…'")
                : Parse(word);
        }

        if (options.HostKeyMode != SshHostKeyMode.Hash)
        {
            return options.HostKeyType is null && options.HostKeyHash is null
                ? new SshHostKey(options.HostKeyMode ?? SshHostKeyMode.KnownHosts)
                : throw Wrong("a digest is given without the mode", "host-key-check.mode=hash");
        }

        return options is { HostKeyType: { } type, HostKeyHash: { } hash }
            ? new SshHostKey(SshHostKeyMode.Hash, type, Digest(type, hash))
            : throw Wrong("the mode is 'hash', but there is none", "'host-key-check.type' and 'host-key-check.hash'");
    }

    /// <summary>
    /// The options of ssh. The digest is compared by a shell that ssh asks for the known hosts: it gets the key and answers
    /// with a line of known hosts only when the digest is right. So nothing but that key is ever accepted.
    /// </summary>
    public IEnumerable<string> Arguments()
    {
        switch (Mode)
        {
            case SshHostKeyMode.None:
                return ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"];
            case SshHostKeyMode.Hash:
                string tool = Type switch
                {
                    SshHashType.Md5 => "md5sum",
                    SshHashType.Sha1 => "sha1sum",
                    _ => "sha256sum",
                };

                // $1 the key in base64 (or NONE), $2 the host as it is looked up, $3 the type. No percent signs: ssh's own.
                string script = $"case $(echo $1 | base64 -d | {tool}) in {Hex}*) echo $2 $3 $1;; esac";
                return
                [
                    "StrictHostKeyChecking=yes", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null",
                    "NoHostAuthenticationForLocalhost=no", "VerifyHostKeyDNS=no", "CheckHostIP=no",
                    $"KnownHostsCommand=/bin/sh -c \"{script}\" check %K %H %t",
                ];
            default:
                return ["StrictHostKeyChecking=yes", "NoHostAuthenticationForLocalhost=no"];
        }
    }

    private static SshHostKey Parse(string word)
    {
        int colon = word.IndexOf(':');
        string kind = (colon < 0 ? word : word[..colon]).ToLowerInvariant();
        SshHashType? type = kind switch
        {
            "md5" => SshHashType.Md5,
            "sha1" => SshHashType.Sha1,
            "sha256" => SshHashType.Sha256,
            _ => null,
        };
        return (kind, colon < 0, type) switch
        {
            ("yes", true, _) => new SshHostKey(SshHostKeyMode.KnownHosts),
            ("no", true, _) => new SshHostKey(SshHostKeyMode.None),
            (_, false, { } found) => new SshHostKey(SshHostKeyMode.Hash, found, Digest(found, word[(colon + 1)..])),
            _ => throw Wrong("there is no such way", Form),
        };
    }

    private static string Digest(SshHashType type, string text)
    {
        int bytes = type switch
        {
            SshHashType.Md5 => 16,
            SshHashType.Sha1 => 20,
            _ => 32,
        };
        string hex = text.Replace(":", "", StringComparison.Ordinal).ToLowerInvariant();
        if (hex.Length == 2 * bytes && hex.All(char.IsAsciiHexDigit))
        {
            return hex;
        }

        var decoded = new byte[bytes + 3];
        string padded = text + new string('=', (4 - (text.Length % 4)) % 4);
        return type != SshHashType.Md5 && Convert.TryFromBase64String(padded, decoded, out int count) && count == bytes
            ? Convert.ToHexStringLower(decoded.AsSpan(0, bytes))
            : throw Wrong($"the digest is not one of {bytes} bytes", Form);
    }

    private static BlockException Wrong(string why, string expected) =>
        new(BlockErrorKind.InvalidArgument, $"the check of the host key is wrong: {why}") { Expected = expected };
}
