namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>
/// What is on disk, as bzip2's sources and the community's "BZIP2 Format Specification" have it. Blocks and the end of
/// a stream begin at any bit.
/// </summary>
internal static class Bzip2Layout
{
    /// <summary>"BZh" and the level, a digit.</summary>
    public const int StreamHeaderSize = 4;

    /// <summary>What a block begins with: the digits of pi.</summary>
    public const ulong BlockMagic = 0x314159265359;

    /// <summary>What ends a stream: the digits of its square root.</summary>
    public const ulong EndMagic = 0x177245385090;

    public const int MagicBits = 48;

    /// <summary>The checksum after either magic.</summary>
    public const int ChecksumBits = 32;

    /// <summary>
    /// Longest stored block: 900,000 symbols and their end at the longest codes of 20 bits, and tables.
    /// </summary>
    public const int MaxStoredBlock = 3 << 20;

    /// <summary>First bytes of a stream.</summary>
    public static ReadOnlySpan<byte> StreamMagic => "BZh"u8;

    /// <summary>True for a stream header.</summary>
    public static bool IsStreamHeader(ReadOnlySpan<byte> bytes) => bytes.Length >= StreamHeaderSize
        && bytes.StartsWith(StreamMagic) && bytes[3] is >= (byte)'1' and <= (byte)'9';
}
