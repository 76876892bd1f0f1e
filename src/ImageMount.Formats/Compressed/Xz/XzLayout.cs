namespace ImageMount.Formats.Compressed.Xz;

/// <summary>What is on disk: The .xz File Format, version 1.2.0 (tukaani.org).</summary>
internal static class XzLayout
{
    /// <summary>Stream header and stream footer, section 2.1.1 and 2.1.2, bytes.</summary>
    public const int HeaderSize = 12;

    /// <summary>Everything is a multiple of this long, bytes.</summary>
    public const int Alignment = 4;

    /// <summary>Smallest unpadded size of a block: a header of 8 bytes can hold no less.</summary>
    public const long MinUnpaddedSize = 5;

    /// <summary>Largest variable-length integer, section 1.2.</summary>
    public const long MaxInteger = long.MaxValue;

    /// <summary>Stream flags, second byte: no check at all.</summary>
    public const byte CheckNone = 0;

    /// <summary>Largest value of the second byte of the stream flags.</summary>
    public const byte MaxCheck = 15;

    /// <summary>Index indicator and smallest index: indicator, one byte count, padding, CRC.</summary>
    public const int MinIndexSize = 8;

    /// <summary>First bytes of a stream.</summary>
    public static ReadOnlySpan<byte> HeaderMagic => [0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0];

    /// <summary>Last bytes of a stream.</summary>
    public static ReadOnlySpan<byte> FooterMagic => "YZ"u8;

    /// <summary>Rounds up to the alignment.</summary>
    public static long Pad(long size) => (size + Alignment - 1) & -Alignment;
}
