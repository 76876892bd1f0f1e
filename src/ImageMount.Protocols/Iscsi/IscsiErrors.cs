using System.Globalization;
using System.Text.RegularExpressions;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>Failures that a target reports, or is.</summary>
internal static partial class IscsiErrors
{
    private const int CrcOnly = (int)IscsiHeaderDigest.Crc32C;

    /// <summary>There is no library.</summary>
    public static BlockException NoLibrary() => new(
        BlockErrorKind.NotSupported, $"iSCSI needs libiscsi, which is not installed ({IscsiLibrary.FileName} was not found)")
    {
        Hint = $"Install the package {IscsiLibrary.DebianPackage}.",
    };

    /// <summary>No connection; <see cref="IscsiConnector"/> looks for the reason.</summary>
    public static BlockException NotConnected(string peer, ReadOnlySpan<byte> said) =>
        new(BlockErrorKind.IoError, $"cannot connect to {peer}: {PeerText.Clean(said) ?? "no reason is known"}");

    /// <summary>The target did not let us in.</summary>
    /// <param name="peer">The portal.</param>
    /// <param name="said">
    /// The library's words; a refusal ends with the status of the login response (RFC 7143, 11.13.5).
    /// </param>
    public static BlockException NotLoggedIn(string peer, ReadOnlySpan<byte> said)
    {
        string text = PeerText.Clean(said) ?? "it ended the connection";
        Match match = StatusAtEnd().Match(text);
        int status = match.Success ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
        (BlockErrorKind kind, string what, string? hint) = status switch
        {
            0x0201 => (BlockErrorKind.PermissionDenied, "the target does not accept our name and password",
                "Check user and password, and that the target knows them; it may also want none, or any at all."),
            0x0202 => (BlockErrorKind.PermissionDenied, "the target is not for this initiator",
                "Check 'initiator-name', and the target's access list."),
            0x0203 => (BlockErrorKind.NotFound, "there is no such target, or none for us",
                "Check the name of the target, and its access list."),
            0x0204 => (BlockErrorKind.NotFound, "the target is gone", null),
            0x0206 or 0x0302 => (BlockErrorKind.IoError, "the target has too many sessions already", null),
            0x0301 => (BlockErrorKind.IoError, "the target is not ready", null),
            _ when text.Contains("CHAP", StringComparison.Ordinal) => (BlockErrorKind.PermissionDenied,
                "the target has not proved who it is", "Check 'target-user' and its password."),
            _ => (BlockErrorKind.IoError, $"the login failed: {text}", (string?)null),
        };
        return new BlockException(kind, $"{peer}: {what}") { Hint = hint };
    }

    /// <summary>
    /// What is wrong with a login that went through, or null: libiscsi takes lengths as they come, would send pieces of no
    /// length for ever, and lets a target jump over its proof or over checksums that were asked for.
    /// </summary>
    public static BlockException? WhyNotGoOn(string peer, IscsiLogin login, IscsiContext context)
    {
        bool hasDigest = false;
        bool isProved = login.TargetChap is null;
        foreach ((string key, string value) in context.Answers)
        {
            switch (key)
            {
                case "MaxRecvDataSegmentLength" or "MaxBurstLength" or "FirstBurstLength":
                    // RFC 7143, 13.12 to 13.14. The library does not know hexadecimal numbers.
                    if (!int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int length)
                        || length is < 512 or > 0xFFFFFF)
                    {
                        return BadAnswer(peer, key, PeerText.Clean(System.Text.Encoding.UTF8.GetBytes(value)) ?? "nothing");
                    }

                    break;
                case "HeaderDigest":
                    hasDigest = value == "CRC32C";
                    break;
                case "CHAP_R":
                    isProved = true;
                    break;
                default:
                    break;
            }
        }

        return context.HasTooManyAnswers ? BadAnswer(peer, "keys", "very many")
            : !isProved ? NotLoggedIn(peer, "CHAP"u8)
            : login.HeaderDigest != CrcOnly || hasDigest ? null
            : new BlockException(BlockErrorKind.NotSupported, $"{peer}: the target has no checksums of headers")
            {
                Hint = "header-digest=crc32c-none does without where the target has none.",
            };
    }

    private static BlockException BadAnswer(string peer, string key, string found) => new(
        BlockErrorKind.InvalidData, $"the target at {peer} breaks the protocol: its {key} in the login cannot be")
    {
        Found = found,
    };

    /// <summary>A session that is over.</summary>
    public static BlockException Broken(string peer, ReadOnlySpan<byte> said) =>
        new(BlockErrorKind.IoError, $"the session with {peer} ended: {PeerText.Clean(said) ?? "no reason is known"}");

    /// <summary>A command that the target refused.</summary>
    /// <param name="operation">"cannot read".</param>
    /// <param name="outcome">What it answered.</param>
    /// <param name="offset">First byte, where there is one.</param>
    public static BlockException Refused(string operation, in IscsiOutcome outcome, long? offset)
    {
        ScsiSense sense = outcome.Sense;
        (BlockErrorKind kind, string why) = outcome.Status switch
        {
            2 when sense.Code == ScsiSense.SpaceExhausted => (BlockErrorKind.NoSpace, "it has no space left"),
            2 when sense.Key == ScsiSense.DataProtect => (BlockErrorKind.ReadOnly, $"it is write-protected ({sense})"),
            2 when sense.Key == ScsiSense.NotReady && sense.Class == ScsiSense.NoMedium =>
                (BlockErrorKind.NotFound, "there is no medium in the drive"),
            2 when sense.Code == ScsiSense.MediumChanged => (BlockErrorKind.IoError, "the medium was exchanged"),
            2 => (BlockErrorKind.IoError, sense.ToString()),
            8 or 0x28 => (BlockErrorKind.TimedOut, "it stays busy"),
            0x18 => (BlockErrorKind.InUse, "it is reserved for another initiator"),
            _ => (BlockErrorKind.IoError, $"status {outcome.Status:x2}h"),
        };
        return new BlockException(kind, $"the target {operation}: {why}")
        {
            Offset = offset,
            Errno = kind switch
            {
                BlockErrorKind.NoSpace => Errno.ENOSPC,
                BlockErrorKind.ReadOnly => Errno.EROFS,
                _ => Errno.EIO,
            },
        };
    }

    [GeneratedRegex(@"\((\d{1,6})\)\z")]
    private static partial Regex StatusAtEnd();
}
