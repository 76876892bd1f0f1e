using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// How the stored payload of a format with tables is encrypted: by which cipher, and whether sectors are numbered by
/// their place in the disk or in the file. Compressed units and tables are not encrypted.
/// </summary>
public sealed class PayloadCipher : IDisposable
{
    /// <summary>What is encrypted as one, bytes; requests have to be aligned to it.</summary>
    public const int Sector = 512;

    private readonly ISectorCipher? _cipher;
    private readonly bool _byHostOffset;

    private PayloadCipher(ISectorCipher? cipher, bool byHostOffset)
    {
        _cipher = cipher;
        _byHostOffset = byHostOffset;
    }

    /// <summary>For an image that is open without its key: every attempt at its payload is refused.</summary>
    public static PayloadCipher Locked { get; } = new(null, false);

    /// <summary>Sectors are numbered by where they are stored (LUKS in qcow2).</summary>
    public static PayloadCipher ByHostOffset(ISectorCipher cipher) => new(cipher, byHostOffset: true);

    /// <summary>Sectors are numbered by where they are in the disk (the older AES of qcow2 and qcow).</summary>
    public static PayloadCipher ByGuestOffset(ISectorCipher cipher) => new(cipher, byHostOffset: false);

    /// <summary>Decrypts in place.</summary>
    public void Decrypt(long guestOffset, long hostOffset, Span<byte> bytes) =>
        Cipher.Decrypt(SectorOf(guestOffset, hostOffset), bytes);

    /// <summary>Encrypts in place.</summary>
    public void Encrypt(long guestOffset, long hostOffset, Span<byte> bytes) =>
        Cipher.Encrypt(SectorOf(guestOffset, hostOffset), bytes);

    /// <inheritdoc/>
    public void Dispose() => _cipher?.Dispose();

    private ISectorCipher Cipher => _cipher
        ?? throw new BlockException(BlockErrorKind.PermissionDenied, "the image is encrypted and no passphrase is given")
        {
            Hint = "Give it with --passphrase-file FILE.",
        };

    private ulong SectorOf(long guestOffset, long hostOffset) =>
        (ulong)(_byHostOffset ? hostOffset : guestOffset) / Sector;
}
