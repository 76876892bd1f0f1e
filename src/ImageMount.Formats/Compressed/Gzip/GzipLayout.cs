using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>What is on disk: RFC 1952 (gzip), RFC 1951 (deflate), SAMv1 section 4.1 (BGZF), dictzip(1).</summary>
internal static class GzipLayout
{
    /// <summary>ID1, ID2.</summary>
    public const ushort Magic = 0x8b1f;

    /// <summary>CM: deflate, the only one there is.</summary>
    public const byte Deflate = 8;

    public const byte FlagHeaderCrc = 2;
    public const byte FlagExtra = 4;
    public const byte FlagName = 8;
    public const byte FlagComment = 16;
    public const byte ReservedFlags = 0xe0;

    /// <summary>Length of the part of a header that is always there.</summary>
    public const int FixedHeaderSize = 10;

    /// <summary>CRC-32 and length of the content, at the end of a member.</summary>
    public const int TrailerSize = 8;

    /// <summary>Longest name or comment that is read.</summary>
    public const int MaxTextLength = 64 << 10;

    /// <summary>Longest header: everything optional at its longest.</summary>
    public const int MaxHeaderSize = FixedHeaderSize + 2 + ushort.MaxValue + (2 * (MaxTextLength + 1)) + 2;

    /// <summary>Content of a BGZF block is never longer.</summary>
    public const int MaxBgzfContent = 64 << 10;
}

/// <summary>The fixed part of a member's header.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly struct GzipFixedHeader
{
    public readonly Le16 Magic;
    public readonly byte Method;
    public readonly byte Flags;
    public readonly Le32 ModificationTime;
    public readonly byte ExtraFlags;
    public readonly byte System;
}

/// <summary>The trailer of a member.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly struct GzipTrailer
{
    public readonly Le32 Crc;
    public readonly Le32 Length;
}
