using System.Security.Cryptography;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// The AES encryption of qcow, which early qcow2 has too: AES-128-CBC with the first sixteen bytes of the passphrase as
/// key, filled up with zeroes; the vectors count the sectors of the disk. There is nothing to tell a wrong passphrase by.
/// </summary>
internal static class OldQcowCipher
{
    /// <summary>What the user has to know who makes such an image.</summary>
    public const string Warning = "the older AES encryption is weak: only the first 16 bytes of the passphrase count, "
        + "and nothing slows guessing it down; encrypt.format=luks of qcow2 is better";

    private static readonly CipherSpec Aes = CipherSpec.Parse("aes-cbc-plain64");

    /// <summary>The cipher of an image that is being opened; locked where there is no passphrase and need not be.</summary>
    public static PayloadCipher Open(OpenContext context, string? keySecret)
    {
        if (context.Flags.StaysLocked(keySecret))
        {
            return PayloadCipher.Locked;
        }

        Secret passphrase = context.Flags.Secrets.Passphrase(keySecret, context.NodeName);
        Span<byte> key = stackalloc byte[16];
        key.Clear();
        passphrase.Span[..Math.Min(key.Length, passphrase.Length)].CopyTo(key);
        PayloadCipher cipher = PayloadCipher.ByGuestOffset(Aes.Create(key));
        CryptographicOperations.ZeroMemory(key);
        return cipher;
    }
}
