using System.Numerics;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Vhdx;

/// <summary>Numbers of the format. Source: [MS-VHDX], sections as noted; all integers are little-endian.</summary>
internal static class VhdxLayout
{
    /// <summary>Alignment of everything but the header section's parts (2.1).</summary>
    public const int MiB = 1 << 20;

    /// <summary>First bytes of the file, "vhdxfile" (2.2.1).</summary>
    public const ulong FileSignature = 0x656C_6966_7864_6876;

    /// <summary>Where the creator's name stands, UTF-16 (2.2.1).</summary>
    public const int CreatorOffset = 8;

    /// <summary>Bytes of the creator's name.</summary>
    public const int CreatorSize = 512;

    /// <summary>The two headers (2.2.2).</summary>
    public const long Header1Offset = 64 << 10;

    /// <summary>The second header.</summary>
    public const long Header2Offset = 128 << 10;

    /// <summary>Bytes of a header that count, and that its checksum covers.</summary>
    public const int HeaderSize = 4096;

    /// <summary>"head".</summary>
    public const uint HeaderSignature = 0x6461_6568;

    /// <summary>The two region tables (2.2.3).</summary>
    public const long RegionTable1Offset = 192 << 10;

    /// <summary>The second region table.</summary>
    public const long RegionTable2Offset = 256 << 10;

    /// <summary>Bytes of a region table.</summary>
    public const int RegionTableSize = 64 << 10;

    /// <summary>"regi".</summary>
    public const uint RegionSignature = 0x6967_6572;

    /// <summary>Most entries of a region table or a metadata table.</summary>
    public const int MaxTableEntries = 2047;

    /// <summary>Where the header section ends and everything else begins.</summary>
    public const long HeaderSectionSize = MiB;

    /// <summary>Unit of the log, and of what it changes (2.3).</summary>
    public const int LogSectorSize = 4096;

    /// <summary>"loge".</summary>
    public const uint LogEntrySignature = 0x6567_6F6C;

    /// <summary>"zero".</summary>
    public const uint ZeroDescriptorSignature = 0x6F72_657A;

    /// <summary>"desc".</summary>
    public const uint DataDescriptorSignature = 0x6373_6564;

    /// <summary>"data".</summary>
    public const uint DataSectorSignature = 0x6174_6164;

    /// <summary>Bytes of a log entry's header; descriptors follow.</summary>
    public const int LogEntryHeaderSize = 64;

    /// <summary>Bytes of a descriptor of either kind.</summary>
    public const int LogDescriptorSize = 32;

    /// <summary>Where the checksum stands in headers, region tables and log entries.</summary>
    public const int ChecksumOffset = 4;

    /// <summary>"metadata" (2.6.1).</summary>
    public const ulong MetadataSignature = 0x6174_6164_6174_656D;

    /// <summary>Bytes of the metadata table; items follow.</summary>
    public const int MetadataTableSize = 64 << 10;

    /// <summary>Longest metadata item.</summary>
    public const int MaxMetadataItem = MiB;

    /// <summary>Largest disk (2.6.2.2).</summary>
    public const long MaxDiskSize = 64L << 40;

    /// <summary>Smallest payload block (2.6.2.1).</summary>
    public const int MinBlockSize = MiB;

    /// <summary>Largest payload block.</summary>
    public const int MaxBlockSize = 256 << 20;

    /// <summary>Sectors that one sector bitmap block describes (2.4).</summary>
    public const long SectorsPerBitmapBlock = 1L << 23;

    /// <summary>Mask of a BAT entry's state (2.5.1).</summary>
    public const ulong StateMask = 7;

    /// <summary>Mask of a BAT entry's place: a multiple of 1 MiB.</summary>
    public const ulong PlaceMask = ~0UL << 20;

    /// <summary>Largest file that is written: more than any disk needs. Bounds what is kept of it in memory.</summary>
    public const long MaxWrittenFile = 128L << 40;

    /// <summary>Region: the block allocation table.</summary>
    public static readonly Guid BatRegion = new("2DC27766-F623-4200-9D64-115E9BFD4A08");

    /// <summary>Region: the metadata.</summary>
    public static readonly Guid MetadataRegion = new("8B7CA206-4790-4B9A-B8FE-575F050F886E");

    /// <summary>Item: file parameters.</summary>
    public static readonly Guid FileParametersItem = new("CAA16737-FA36-4D43-B3B6-33F0AA44E76B");

    /// <summary>Item: size of the disk.</summary>
    public static readonly Guid DiskSizeItem = new("2FA54224-CD1B-4876-B211-5DBED83BF4B8");

    /// <summary>Item: identity of the disk.</summary>
    public static readonly Guid DiskIdItem = new("BECA12AB-B2E6-4523-93EF-C309E000C746");

    /// <summary>Item: logical sector size.</summary>
    public static readonly Guid LogicalSectorItem = new("8141BF1D-A96F-4709-BA47-F233A8FAAB5F");

    /// <summary>Item: physical sector size.</summary>
    public static readonly Guid PhysicalSectorItem = new("CDA348C7-445D-4471-9CC9-E9885251C556");

    /// <summary>Item: parent locator.</summary>
    public static readonly Guid ParentLocatorItem = new("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C");

    /// <summary>The one type of parent locator there is (2.6.2.6.3).</summary>
    public static readonly Guid VhdxLocator = new("B04AEFB7-D19E-4A81-B789-25B8E9445913");

    /// <summary>CRC-32C of a structure whose own checksum counts as zero.</summary>
    public static uint Checksum(ReadOnlySpan<byte> structure)
    {
        uint crc = Crc32C.Update(Crc32C.Start, structure[..ChecksumOffset]);
        crc = BitOperations.Crc32C(crc, 0u);
        return ~Crc32C.Update(crc, structure[(ChecksumOffset + sizeof(uint))..]);
    }
}

/// <summary>States of a payload block (2.5.1.1).</summary>
internal enum VhdxState
{
    NotPresent = 0,
    Undefined = 1,
    Zero = 2,
    Unmapped = 3,
    FullyPresent = 6,
    PartiallyPresent = 7,
}

/// <summary>A header as stored (2.2.2); the rest of its 4096 bytes is zero.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawHeader
{
    public Le32 Signature;
    public Le32 Checksum;
    public Le64 SequenceNumber;
    public VhdxGuid FileWriteGuid;
    public VhdxGuid DataWriteGuid;
    public VhdxGuid LogGuid;
    public Le16 LogVersion;
    public Le16 Version;
    public Le32 LogLength;
    public Le64 LogOffset;
}

/// <summary>A GUID as stored: its first three fields are little-endian.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct VhdxGuid
{
    private readonly Le32 _a;
    private readonly Le16 _b;
    private readonly Le16 _c;
    private readonly Be64 _d;

    /// <summary>Stores a value.</summary>
    public VhdxGuid(Guid value)
    {
        Span<byte> bytes = stackalloc byte[16];
        value.TryWriteBytes(bytes);
        this = MemoryMarshal.Read<VhdxGuid>(bytes);
    }

    /// <summary>The value.</summary>
    public Guid Value
    {
        get
        {
            Span<byte> bytes = stackalloc byte[16];
            MemoryMarshal.Write(bytes, this);
            return new Guid(bytes);
        }
    }

    /// <summary>Reads the value.</summary>
    public static implicit operator Guid(VhdxGuid stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator VhdxGuid(Guid value) => new(value);
}

/// <summary>Head of a region table (2.2.3.1).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawRegionHeader
{
    public Le32 Signature;
    public Le32 Checksum;
    public Le32 EntryCount;
    public Le32 Reserved;
}

/// <summary>A region (2.2.3.2).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawRegion
{
    public VhdxGuid Id;
    public Le64 FileOffset;
    public Le32 Length;
    public Le32 Required;
}

/// <summary>Head of a log entry (2.3.1.1).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawLogEntry
{
    public Le32 Signature;
    public Le32 Checksum;
    public Le32 EntryLength;
    public Le32 Tail;
    public Le64 SequenceNumber;
    public Le32 DescriptorCount;
    public Le32 Reserved;
    public VhdxGuid LogGuid;
    public Le64 FlushedFileOffset;
    public Le64 LastFileOffset;
}

/// <summary>
/// A descriptor (2.3.1.2, 2.3.1.3). In a zero descriptor, <see cref="Trailing"/> is reserved and
/// <see cref="LeadingOrLength"/> is the length to zero.
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawDescriptor
{
    public Le32 Signature;
    public Le32 Trailing;
    public Le64 LeadingOrLength;
    public Le64 FileOffset;
    public Le64 SequenceNumber;
}

/// <summary>Head of the metadata table (2.6.1.1).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawMetadataHeader
{
    public Le64 Signature;
    public Le16 Reserved;
    public Le16 EntryCount;
    public Le32 Reserved2;
    public Le64 Reserved3;
    public Le64 Reserved4;
}

/// <summary>An entry of the metadata table (2.6.1.2).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawMetadataEntry
{
    /// <summary>Flag: the user's, not the system's.</summary>
    public const uint IsUser = 1;

    /// <summary>Flag: describes the disk rather than the file.</summary>
    public const uint IsVirtualDisk = 2;

    /// <summary>Flag: not to be opened by who does not know it.</summary>
    public const uint IsRequired = 4;

    public VhdxGuid ItemId;
    public Le32 Offset;
    public Le32 Length;
    public Le32 Flags;
    public Le32 Reserved;
}

/// <summary>An entry of the parent locator (2.6.2.6.2).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VhdxRawLocatorEntry
{
    public Le32 KeyOffset;
    public Le32 ValueOffset;
    public Le16 KeyLength;
    public Le16 ValueLength;
}
