using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Bits;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// What a file of the cache looks like. It holds one state of one disk: first the disk's own bytes, each at its own
/// offset (so that a read is one pread), then an index, then a page that says what all that is.
/// </summary>
/// <remarks>
/// The index has a mark for each unit of 16 KiB: 0 when the unit is not there, else its checksum. Nothing is ever
/// flushed: a mark is believed only after the unit's bytes have given the same checksum, so whatever a crash leaves of
/// bytes and marks, in whatever order, is either right or as good as absent. That is also what protects from bytes that
/// rot.
/// </remarks>
internal readonly record struct CacheLayout(long Length)
{
    /// <summary>What is there or not, and has a checksum.</summary>
    public const int UnitSize = 16 << 10;

    /// <summary>What is asked of the server at least.</summary>
    public const int ClusterSize = 64 << 10;

    /// <summary>Bytes of the last page.</summary>
    public const int HeaderSize = 4096;

    /// <summary>Bytes of a mark.</summary>
    public const int MarkSize = sizeof(uint);

    /// <summary>Longest disk: its index has 16 GiB.</summary>
    public const long MaxLength = 64L << 40;

    /// <summary>Units, the last one maybe short.</summary>
    public long Units => (Length + UnitSize - 1) / UnitSize;

    /// <summary>Where the index begins.</summary>
    public long IndexOffset => RoundUp(Length);

    /// <summary>Where the last page begins.</summary>
    public long HeaderOffset => IndexOffset + RoundUp(Units * MarkSize);

    /// <summary>Bytes of the file.</summary>
    public long FileSize => HeaderOffset + HeaderSize;

    /// <summary>Bytes of a unit.</summary>
    public int LengthOf(long unit) => (int)Math.Min(UnitSize, Length - (unit * UnitSize));

    private static long RoundUp(long bytes) => (bytes + HeaderSize - 1) & -(long)HeaderSize;
}

/// <summary>
/// The last page of a file of the cache: what the file holds. It is written once, before the file gets its name.
/// </summary>
/// <param name="Length">Bytes of the disk.</param>
/// <param name="Key">Hash of the name of the disk.</param>
/// <param name="State">Hash of its version.</param>
/// <param name="Version">The version, for people.</param>
internal sealed record CacheHeader(long Length, byte[] Key, byte[] State, string Version)
{
    private const ulong Magic = 0x696D67_6361636865; // "imgcache"
    private const uint LayoutVersion = 1;
    private const int HashSize = 32;
    private const int MaxVersion = 400;

    // Magic, layout, unit size, length, two hashes, length of the version, version …, checksum at the end.
    private const int LengthAt = 16;
    private const int KeyAt = 24;
    private const int StateAt = KeyAt + HashSize;
    private const int VersionLengthAt = StateAt + HashSize;
    private const int VersionAt = VersionLengthAt + 2;
    private const int ChecksumAt = CacheLayout.HeaderSize - sizeof(uint);

    /// <summary>Ends the names of the files.</summary>
    public const string Suffix = ".imgcache";

    /// <summary>What the file is called: which disk, and which state of it.</summary>
    public string FileName => PrefixOf(Key) + Convert.ToHexStringLower(State.AsSpan(0, 12)) + Suffix;

    /// <summary>What the names of all states of a disk begin with.</summary>
    public static string PrefixOf(ReadOnlySpan<byte> key) => Convert.ToHexStringLower(key[..16]) + "-";

    /// <summary>The hash of the name of a disk.</summary>
    public static byte[] KeyOf(string key) => SHA256.HashData(Encoding.UTF8.GetBytes("imgmount remote cache\n" + key));

    /// <summary>For a state of a disk.</summary>
    public static CacheHeader For(string key, string version, long length) => new(
        length, KeyOf(key),
        SHA256.HashData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{length}\n{version}"))),
        Printable(version));

    /// <summary>The page.</summary>
    public byte[] ToPage()
    {
        var page = new byte[CacheLayout.HeaderSize];
        BinaryPrimitives.WriteUInt64BigEndian(page, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(8), LayoutVersion);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(12), CacheLayout.UnitSize);
        BinaryPrimitives.WriteInt64LittleEndian(page.AsSpan(LengthAt), Length);
        Key.CopyTo(page, KeyAt);
        State.CopyTo(page, StateAt);
        int count = Encoding.ASCII.GetBytes(Version, page.AsSpan(VersionAt));
        BinaryPrimitives.WriteUInt16LittleEndian(page.AsSpan(VersionLengthAt), (ushort)count);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(ChecksumAt), Crc32C.Of(page.AsSpan(0, ChecksumAt)));
        return page;
    }

    /// <summary>Reads a page; null when it is not one of ours, or damaged.</summary>
    public static CacheHeader? Parse(ReadOnlySpan<byte> page)
    {
        if (page.Length != CacheLayout.HeaderSize || BinaryPrimitives.ReadUInt64BigEndian(page) != Magic
            || BinaryPrimitives.ReadUInt32LittleEndian(page[ChecksumAt..]) != Crc32C.Of(page[..ChecksumAt])
            || BinaryPrimitives.ReadUInt32LittleEndian(page[8..]) != LayoutVersion
            || BinaryPrimitives.ReadUInt32LittleEndian(page[12..]) != CacheLayout.UnitSize)
        {
            return null;
        }

        long length = BinaryPrimitives.ReadInt64LittleEndian(page[LengthAt..]);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(page[VersionLengthAt..]);
        return length is <= 0 or > CacheLayout.MaxLength || count > MaxVersion ? null : new CacheHeader(
            length, page.Slice(KeyAt, HashSize).ToArray(), page.Slice(StateAt, HashSize).ToArray(),
            Printable(Encoding.Latin1.GetString(page.Slice(VersionAt, count))));
    }

    /// <summary>True when a file holds the same state of the same disk.</summary>
    public bool IsSameAs(CacheHeader other) =>
        Length == other.Length && Key.AsSpan().SequenceEqual(other.Key) && State.AsSpan().SequenceEqual(other.State);

    private static string Printable(string text) =>
        string.Concat(text.Take(MaxVersion).Select(c => c is < ' ' or > '~' ? '?' : c));
}
