using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Compressed.Zstd;

/// <summary>
/// What is on disk: RFC 8878, and the seekable format of the zstd project (contrib/seekable_format, 0.1.0).
/// </summary>
internal static class ZstdLayout
{
    /// <summary>A frame, section 3.1.1.</summary>
    public const uint FrameMagic = 0xfd2fb528;

    /// <summary>Skippable frames, section 3.1.2: sixteen magics.</summary>
    public const uint SkippableMagic = 0x184d2a50;

    public const uint SkippableMask = 0xfffffff0;

    /// <summary>The skippable frame that holds a seek table.</summary>
    public const uint SeekTableMagic = 0x184d2a5e;

    /// <summary>Last four bytes of a seek table.</summary>
    public const uint SeekTableEndMagic = 0x8f92eab1;

    /// <summary>Magic and size of a skippable frame.</summary>
    public const int SkippableHeaderSize = 8;

    /// <summary>Longest header of a frame, the magic included.</summary>
    public const int MaxFrameHeaderSize = 18;

    public const int BlockHeaderSize = 3;

    public const int ChecksumSize = 4;

    /// <summary>Largest block, section 3.1.1.2.</summary>
    public const int MaxBlockSize = 128 << 10;

    public const byte ReservedBit = 8;
    public const byte ChecksumBit = 4;
    public const byte SingleSegmentBit = 32;

    public const byte SeekTableChecksumBit = 0x80;
    public const byte SeekTableReservedBits = 0x7c;
}

/// <summary>The end of a seek table.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly struct ZstdSeekTableFooter
{
    public readonly Le32 FrameCount;
    public readonly byte Descriptor;
    public readonly Le32 Magic;
}
