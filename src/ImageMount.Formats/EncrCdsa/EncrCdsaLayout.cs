using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.EncrCdsa;

/// <summary>
/// On-disk constants of Apple's encrypted disk images, version 2, and limits. Apple has not published the format; the
/// layout is common knowledge of the programs that open it (VileFault, John the Ripper), the numbers of algorithms are
/// those of CDSA.
/// </summary>
internal static class EncrCdsaLayout
{
    /// <summary>The only version that begins with the magic.</summary>
    public const uint Version = 2;

    /// <summary>Key entry that a passphrase opens; 2 is one for a certificate.</summary>
    public const uint PassphraseKey = 1;

    /// <summary>CSSM_ALGID_AES with Apple's bit for vendor algorithms.</summary>
    public const uint AlgorithmAes = 0x80000001;

    /// <summary>CSSM_ALGID_3DES_3KEY_EDE.</summary>
    public const uint AlgorithmTripleDes = 17;

    /// <summary>CSSM_ALGID_PKCS5_PBKDF2.</summary>
    public const uint AlgorithmPbkdf2 = 103;

    /// <summary>Bytes of the key for HMAC-SHA1, which makes the initial vectors of chunks.</summary>
    public const int HmacKeySize = 20;

    /// <summary>Smallest chunk, bytes: below it there would be more initial vectors than work.</summary>
    public const uint MinChunk = 512;

    /// <summary>Largest chunk, bytes: the largest alignment that a node accepts.</summary>
    public const uint MaxChunk = 64 << 10;

    /// <summary>Most key entries looked at.</summary>
    public const uint MaxKeys = 64;

    /// <summary>Most rounds of PBKDF2, some seconds; current macOS takes about 300 000.</summary>
    public const uint MaxIterations = 10_000_000;

    /// <summary>First bytes of an image.</summary>
    public static ReadOnlySpan<byte> Magic => "encrcdsa"u8;

    /// <summary>Last bytes of an image of version 1, whose header is a trailer.</summary>
    public static ReadOnlySpan<byte> Version1Magic => "cdsaencr"u8;

    /// <summary>What follows the keys in an opened key blob.</summary>
    public static ReadOnlySpan<byte> BlobMagic => "CKIE\0"u8;
}

/// <summary>The header, without the magic; key entries follow it.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct EncrCdsaStoredHeader
{
    public Be32 Version;
    public Be32 IvSize;
    public Be32 Mode;
    public Be32 Algorithm;
    public Be32 KeyBits;
    public Be32 IvAlgorithm;
    public Be32 IvKeyBits;
    public UInt128 Id;

    /// <summary>Bytes that are encrypted as one.</summary>
    public Be32 ChunkSize;

    /// <summary>Bytes of the content.</summary>
    public Be64 DataSize;

    /// <summary>Where in the file it begins.</summary>
    public Be64 DataOffset;
    public Be32 KeyCount;
}

/// <summary>A key entry.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct EncrCdsaKeyPointer
{
    public Be32 Type;
    public Be64 Offset;
    public Be64 Length;
}

/// <summary>What a passphrase opens; the blob follows it.</summary>
[StructLayout(LayoutKind.Explicit, Size = 104, Pack = 1)]
internal struct EncrCdsaPassphraseKey
{
    [FieldOffset(0)]
    public Be32 KdfAlgorithm;
    [FieldOffset(8)]
    public Be32 Iterations;
    [FieldOffset(12)]
    public Be32 SaltSize;

    /// <summary>Up to 32 bytes from 16 on.</summary>
    [FieldOffset(16)]
    public byte Salt;
    [FieldOffset(48)]
    public Be32 IvSize;

    /// <summary>Up to 32 bytes from 52 on.</summary>
    [FieldOffset(52)]
    public byte Iv;
    [FieldOffset(84)]
    public Be32 KeyBits;
    [FieldOffset(88)]
    public Be32 Algorithm;
    [FieldOffset(100)]
    public Be32 BlobSize;
}
