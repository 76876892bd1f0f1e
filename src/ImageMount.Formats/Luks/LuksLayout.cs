using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Luks;

/// <summary>
/// On-disk constants of LUKS1 (LUKS1 On-Disk Format Specification 1.2.3) and LUKS2 (LUKS2 On-Disk Format Specification
/// 1.1), and the limits that keep a hostile image from using up the machine.
/// </summary>
public static class LuksLayout
{
    /// <summary>Sectors of LUKS1, and what initialisation vectors count in, bytes.</summary>
    public const int Sector = 512;

    /// <summary>Key slots of LUKS1.</summary>
    public const int SlotsV1 = 8;

    /// <summary>Bytes of a LUKS1 header.</summary>
    public const int HeaderSizeV1 = 592;

    /// <summary>Where LUKS1 key material may begin, bytes, in what this program makes.</summary>
    public const int FirstMaterialV1 = 4096;

    /// <summary>A LUKS1 key slot that is in use ("LUKS_KEY_ENABLED").</summary>
    public const uint SlotEnabled = 0x00ac71f3;

    /// <summary>One that is not ("LUKS_KEY_DISABLED").</summary>
    public const uint SlotDisabled = 0x0000dead;

    /// <summary>Where the key slots are in a LUKS1 header.</summary>
    public const int SlotsField = 208;

    /// <summary>Pieces that keys are split into ("LUKS_STRIPES").</summary>
    public const int Stripes = 4000;

    /// <summary>Bytes of the digest of a LUKS1 volume key.</summary>
    public const int DigestSizeV1 = 20;

    /// <summary>Bytes of a salt of LUKS1, and of the salts that this program makes.</summary>
    public const int SaltSize = 32;

    /// <summary>Bytes of the binary part of a LUKS2 header.</summary>
    public const int BinaryHeaderSize = 4096;

    /// <summary>Smallest LUKS2 header, binary part and JSON; others are this times a power of two.</summary>
    public const int MinHeaderSizeV2 = 16 << 10;

    /// <summary>Largest.</summary>
    public const int MaxHeaderSizeV2 = 4 << 20;

    /// <summary>Where the checksum is in the binary header.</summary>
    public const int ChecksumField = 448;

    /// <summary>Bytes of the checksum field.</summary>
    public const int ChecksumFieldSize = 64;

    /// <summary>Most bytes of the area for key slots.</summary>
    public const long MaxKeySlotsArea = 128 << 20;

    /// <summary>Most key slots of LUKS2.</summary>
    public const int SlotsV2 = 32;

    /// <summary>Most segments of LUKS2.</summary>
    public const int MaxSegments = 32;

    /// <summary>Most digests of LUKS2.</summary>
    public const int MaxDigests = 8;

    /// <summary>Largest key, bytes.</summary>
    public const int MaxKeySize = 64;

    /// <summary>Largest salt or digest in LUKS2, bytes.</summary>
    public const int MaxBinary = 256;

    /// <summary>Deepest nesting of the JSON.</summary>
    public const int MaxJsonDepth = 16;

    /// <summary>"LUKS\xba\xbe", the magic of LUKS1 and of the first LUKS2 header.</summary>
    public static ReadOnlySpan<byte> Magic => [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];

    /// <summary>"SKUL\xba\xbe", the magic of the second LUKS2 header.</summary>
    public static ReadOnlySpan<byte> SecondMagic => [0x53, 0x4b, 0x55, 0x4c, 0xba, 0xbe];
}

/// <summary>Six bytes of text.</summary>
[InlineArray(6)]
public struct LuksMagic
{
    private byte _first;
}

/// <summary>Twenty bytes.</summary>
[InlineArray(LuksLayout.DigestSizeV1)]
public struct LuksBytes20
{
    private byte _first;
}

/// <summary>Thirty-two bytes, or a text that ends with a zero.</summary>
[InlineArray(32)]
public struct LuksBytes32
{
    private byte _first;
}

/// <summary>A text of up to forty bytes.</summary>
[InlineArray(40)]
public struct LuksBytes40
{
    private byte _first;
}

/// <summary>A text of up to forty-eight bytes.</summary>
[InlineArray(48)]
public struct LuksBytes48
{
    private byte _first;
}

/// <summary>Sixty-four bytes.</summary>
[InlineArray(64)]
public struct LuksBytes64
{
    private byte _first;
}

/// <summary>The header of LUKS1 up to its key slots (section 2.2, "PHDR").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Luks1Start
{
    /// <summary>"LUKS\xba\xbe".</summary>
    public LuksMagic Magic;

    /// <summary>1.</summary>
    public Be16 Version;

    /// <summary>"aes".</summary>
    public LuksBytes32 CipherName;

    /// <summary>"xts-plain64".</summary>
    public LuksBytes32 CipherMode;

    /// <summary>"sha256".</summary>
    public LuksBytes32 HashSpec;

    /// <summary>Where the encrypted data begins, in sectors of 512 bytes.</summary>
    public Be32 PayloadOffset;

    /// <summary>Bytes of the volume key.</summary>
    public Be32 KeyBytes;

    /// <summary>Digest of the volume key.</summary>
    public LuksBytes20 Digest;

    /// <summary>Salt of the digest.</summary>
    public LuksBytes32 DigestSalt;

    /// <summary>Iterations of the digest.</summary>
    public Be32 DigestIterations;

    /// <summary>UUID as text.</summary>
    public LuksBytes40 Uuid;
}

/// <summary>A key slot of LUKS1 (section 2.2, "key slot").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Luks1Slot
{
    /// <summary>In use or not.</summary>
    public Be32 Active;

    /// <summary>Iterations of PBKDF2.</summary>
    public Be32 Iterations;

    /// <summary>Salt of PBKDF2.</summary>
    public LuksBytes32 Salt;

    /// <summary>Where the key material begins, in sectors.</summary>
    public Be32 MaterialOffset;

    /// <summary>Pieces of the split key.</summary>
    public Be32 Stripes;
}

/// <summary>The used part of the binary header of LUKS2 (section 2.1), up to the padding before the checksum.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct Luks2Start
{
    /// <summary>Which of the two headers it is.</summary>
    public LuksMagic Magic;

    /// <summary>2.</summary>
    public Be16 Version;

    /// <summary>Bytes of the header, with the JSON.</summary>
    public Be64 HeaderSize;

    /// <summary>Grows with each change.</summary>
    public Be64 SequenceId;

    /// <summary>Label.</summary>
    public LuksBytes48 Label;

    /// <summary>"sha256".</summary>
    public LuksBytes32 ChecksumAlgorithm;

    /// <summary>Random bytes, different in each header.</summary>
    public LuksBytes64 Salt;

    /// <summary>UUID as text.</summary>
    public LuksBytes40 Uuid;

    /// <summary>Second label.</summary>
    public LuksBytes48 Subsystem;

    /// <summary>Where this header is, bytes.</summary>
    public Be64 HeaderOffset;
}
