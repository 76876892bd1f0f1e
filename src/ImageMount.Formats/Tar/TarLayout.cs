namespace ImageMount.Formats.Tar;

/// <summary>
/// What is on disk: POSIX.1-1988 ustar, POSIX.1-2001 pax (IEEE 1003.1, "pax"), and GNU tar's additions (its manual,
/// "Basic Tar Format"). Headers and content are padded to blocks.
/// </summary>
internal static class TarLayout
{
    /// <summary>Headers, and what content is padded to, bytes.</summary>
    public const int BlockSize = 512;

    public const int NameAt = 0;
    public const int NameSize = 100;
    public const int SizeAt = 124;
    public const int SizeSize = 12;
    public const int ChecksumAt = 148;
    public const int ChecksumSize = 8;
    public const int TypeAt = 156;
    public const int MagicAt = 257;
    public const int PrefixAt = 345;
    public const int PrefixSize = 155;

    /// <summary>In a header of type S: its map goes on in the next block.</summary>
    public const int SparseExtendedAt = 482;

    /// <summary>In a block of a map: it goes on in the next.</summary>
    public const int MapExtendedAt = 504;

    public const byte TypeRegular = (byte)'0';
    public const byte TypeOldRegular = 0;
    public const byte TypeContiguous = (byte)'7';
    public const byte TypeSparse = (byte)'S';
    public const byte TypeMultiVolume = (byte)'M';
    public const byte TypeLongName = (byte)'L';
    public const byte TypeLongLink = (byte)'K';
    public const byte TypePax = (byte)'x';
    public const byte TypePaxGlobal = (byte)'g';

    /// <summary>Longest name that is read, bytes.</summary>
    public const int MaxNameLength = 4096;

    /// <summary>Longest extended header that is read, bytes.</summary>
    public const int MaxExtendedHeader = 1 << 20;

    /// <summary>Most headers that are read.</summary>
    public const int MaxHeaders = 1_000_000;

    /// <summary>Most members that are remembered.</summary>
    public const int MaxMembers = 100_000;

    /// <summary>Followed by NUL and "00" in POSIX archives, by a space in GNU ones.</summary>
    public static ReadOnlySpan<byte> Magic => "ustar"u8;
}
