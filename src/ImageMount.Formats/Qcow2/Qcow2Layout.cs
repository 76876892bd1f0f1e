using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// On-disk constants of qcow2 (QEMU's docs/interop/qcow2.txt; the section is named at each group) and the limits that
/// keep a hostile image from using up the machine. Where the specification gives an implementation limit of QEMU, ours
/// is the same, so that an image either opens in both programs or in neither.
/// </summary>
public static class Qcow2Layout
{
    /// <summary>"QFI\xfb" ("Header").</summary>
    public const uint Magic = 0x514649fb;

    /// <summary>Length of a version 2 header, bytes ("Header").</summary>
    public const int HeaderLengthV2 = 72;

    /// <summary>Shortest header of version 3, bytes ("Header").</summary>
    public const int MinHeaderLengthV3 = 104;

    /// <summary>Header with the compression type and its padding ("Additional fields").</summary>
    public const int HeaderLengthWithCompression = 112;

    /// <summary>512-byte clusters ("Header", cluster_bits).</summary>
    public const int MinClusterBits = 9;

    /// <summary>2 MiB clusters, the implementation limit named in "Header".</summary>
    public const int MaxClusterBits = 21;

    /// <summary>16 KiB clusters ("Header": smallest with extended L2 entries).</summary>
    public const int MinClusterBitsExtended = 14;

    /// <summary>64-bit reference counts ("Header", refcount_order).</summary>
    public const int MaxRefcountOrder = 6;

    /// <summary>16-bit reference counts, fixed in version 2.</summary>
    public const int DefaultRefcountOrder = 4;

    /// <summary>Longest backing file name, bytes ("Header").</summary>
    public const int MaxBackingNameLength = 1023;

    /// <summary>Largest L1 table, bytes ("Header").</summary>
    public const int MaxL1Bytes = 32 << 20;

    /// <summary>Largest refcount table, bytes ("Host cluster management").</summary>
    public const int MaxRefcountTableBytes = 8 << 20;

    /// <summary>Most internal snapshots.</summary>
    public const int MaxSnapshots = 65536;

    /// <summary>Largest snapshot table, bytes.</summary>
    public const int MaxSnapshotTableBytes = 1024 * MaxSnapshots;

    /// <summary>Largest extra data of one snapshot, bytes.</summary>
    public const int MaxSnapshotExtraData = 1024;

    /// <summary>Most bitmaps ("Bitmaps extension").</summary>
    public const int MaxBitmaps = 65535;

    /// <summary>Longest bitmap name ("Bitmap directory").</summary>
    public const int MaxBitmapNameLength = 1023;

    /// <summary>Largest bitmap directory, bytes: every bitmap with the longest name.</summary>
    public const long MaxBitmapDirectoryBytes = 65535L * (24 + 1024);

    /// <summary>Subclusters of a cluster ("Extended L2 Entries").</summary>
    public const int SubclustersPerCluster = 32;

    /// <summary>
    /// Compressed data is addressed in sectors of this size, bytes ("Compressed Clusters Descriptor").
    /// </summary>
    public const int CompressedSector = 512;

    /// <summary>L1 and L2: refcount is exactly one, so that writing in place is allowed ("Cluster mapping").</summary>
    public const ulong CopiedFlag = 1UL << 63;

    /// <summary>L2: compressed cluster.</summary>
    public const ulong CompressedFlag = 1UL << 62;

    /// <summary>L2, version 3, standard entries: the cluster reads as zeroes.</summary>
    public const ulong ZeroFlag = 1;

    /// <summary>L1, L2 and bitmap table: bits 9…55, a host offset.</summary>
    public const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;

    /// <summary>L1: bits that must be zero.</summary>
    public const ulong L1Reserved = 0x7f00_0000_0000_01ff;

    /// <summary>L2 standard cluster: bits that must be zero (bit 0 is the zero flag, or reserved).</summary>
    public const ulong L2Reserved = 0x3f00_0000_0000_01fe;

    /// <summary>Refcount table: bits 9…63, a host offset.</summary>
    public const ulong RefcountOffsetMask = 0xffff_ffff_ffff_fe00;

    /// <summary>Host offsets of tables and clusters lie below this (56 bits, "Cluster mapping").</summary>
    public const long MaxHostOffset = 1L << 56;

    /// <summary>Header extension types ("Header extensions").</summary>
    public const uint ExtensionEnd = 0x00000000;

    /// <summary>Format of the backing file, a string.</summary>
    public const uint ExtensionBackingFormat = 0xe2792aca;

    /// <summary>Names of features.</summary>
    public const uint ExtensionFeatureNames = 0x6803f857;

    /// <summary>Persistent bitmaps.</summary>
    public const uint ExtensionBitmaps = 0x23852875;

    /// <summary>LUKS header pointer.</summary>
    public const uint ExtensionEncryption = 0x0537be77;

    /// <summary>Name of the external data file, a string.</summary>
    public const uint ExtensionDataFile = 0x44415441;

    /// <summary>Bytes of one feature name entry ("Feature name table").</summary>
    public const int FeatureNameEntry = 48;

    /// <summary>Header fields that this program rewrites: offset of "size" ("Header").</summary>
    public const int SizeField = 24;

    /// <summary>Offset of "crypt_method" in the header.</summary>
    public const int CryptMethodField = 32;

    /// <summary>crypt_method: the older AES, with the passphrase itself as key.</summary>
    public const uint CryptAes = 1;

    /// <summary>crypt_method: LUKS ("Full disk encryption header pointer").</summary>
    public const uint CryptLuks = 2;

    /// <summary>Most bytes of a LUKS header with its key material.</summary>
    public const long MaxEncryptionHeaderBytes = 64 << 20;

    /// <summary>Offset of "l1_size" in the header; "l1_table_offset" follows.</summary>
    public const int L1SizeField = 36;

    /// <summary>Offset of "refcount_table_offset" in the header; "refcount_table_clusters" follows.</summary>
    public const int RefcountTableField = 48;

    /// <summary>Offset of "incompatible_features" in the header.</summary>
    public const int IncompatibleField = 72;

    /// <summary>Offset of "autoclear_features" in the header.</summary>
    public const int AutoclearField = 88;

    /// <summary>Bytes of the fixed part of a snapshot table entry ("Snapshots").</summary>
    public const int SnapshotEntry = 40;

    /// <summary>Bytes of the fixed part of a bitmap directory entry ("Bitmap directory").</summary>
    public const int BitmapEntry = 24;

    /// <summary>Offset of the flags in a bitmap directory entry.</summary>
    public const int BitmapFlagsField = 12;

    /// <summary>Bitmap flag: not saved properly ("Bitmap directory").</summary>
    public const uint BitmapInUse = 1;

    /// <summary>Bitmap flag: enabled, must follow all writes.</summary>
    public const uint BitmapAuto = 2;
}

/// <summary>Bytes 0…71, common to all versions ("Header").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2HeaderV2
{
    /// <summary>"QFI\xfb".</summary>
    public Be32 Magic { get; init; }

    /// <summary>2 or 3.</summary>
    public Be32 Version { get; init; }

    /// <summary>Where the backing file's name is; 0: no backing file.</summary>
    public Be64 BackingFileOffset { get; init; }

    /// <summary>Bytes of the name.</summary>
    public Be32 BackingFileSize { get; init; }

    /// <summary>log2 of the cluster size.</summary>
    public Be32 ClusterBits { get; init; }

    /// <summary>Virtual size, bytes.</summary>
    public Be64 Size { get; init; }

    /// <summary>0 none, 1 AES, 2 LUKS.</summary>
    public Be32 CryptMethod { get; init; }

    /// <summary>Entries of the active L1 table.</summary>
    public Be32 L1Size { get; init; }

    /// <summary>Where the active L1 table is.</summary>
    public Be64 L1TableOffset { get; init; }

    /// <summary>Where the refcount table is.</summary>
    public Be64 RefcountTableOffset { get; init; }

    /// <summary>Its clusters.</summary>
    public Be32 RefcountTableClusters { get; init; }

    /// <summary>Number of internal snapshots.</summary>
    public Be32 SnapshotCount { get; init; }

    /// <summary>Where the snapshot table is.</summary>
    public Be64 SnapshotsOffset { get; init; }
}

/// <summary>Bytes 72…103, version 3 ("Header").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2HeaderV3
{
    /// <summary>Features without which the image must not be opened.</summary>
    public Be64 IncompatibleFeatures { get; init; }

    /// <summary>Features that may be ignored.</summary>
    public Be64 CompatibleFeatures { get; init; }

    /// <summary>Features that a writer clears when it does not know them.</summary>
    public Be64 AutoclearFeatures { get; init; }

    /// <summary>log2 of the refcount width in bits.</summary>
    public Be32 RefcountOrder { get; init; }

    /// <summary>Bytes of the header.</summary>
    public Be32 HeaderLength { get; init; }
}

/// <summary>Head of a header extension ("Header extensions").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2ExtensionHead
{
    /// <summary>Type.</summary>
    public Be32 Type { get; init; }

    /// <summary>Bytes of data that follow, without padding.</summary>
    public Be32 Length { get; init; }
}

/// <summary>Data of the encryption extension ("Full disk encryption header pointer").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2EncryptionExtension
{
    /// <summary>Where the LUKS header is; a cluster's offset.</summary>
    public Be64 Offset { get; init; }

    /// <summary>Bytes of it and of its key material.</summary>
    public Be64 Length { get; init; }
}

/// <summary>Data of the bitmaps extension ("Bitmaps extension").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2BitmapsExtension
{
    /// <summary>Number of bitmaps, 1 or more.</summary>
    public Be32 Count { get; init; }

    /// <summary>Zero.</summary>
    public Be32 Reserved { get; init; }

    /// <summary>Bytes of the directory.</summary>
    public Be64 DirectorySize { get; init; }

    /// <summary>Where the directory is.</summary>
    public Be64 DirectoryOffset { get; init; }
}

/// <summary>Fixed part of a bitmap directory entry; extra data and the name follow ("Bitmap directory").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2BitmapEntry
{
    /// <summary>Where the bitmap table is.</summary>
    public Be64 TableOffset { get; init; }

    /// <summary>Entries of the bitmap table.</summary>
    public Be32 TableSize { get; init; }

    /// <summary>in_use, auto, extra_data_compatible.</summary>
    public Be32 Flags { get; init; }

    /// <summary>1: dirty tracking.</summary>
    public byte Type { get; init; }

    /// <summary>log2 of the bytes that a bit stands for.</summary>
    public byte GranularityBits { get; init; }

    /// <summary>Bytes of the name.</summary>
    public Be16 NameSize { get; init; }

    /// <summary>Bytes of extra data before the name.</summary>
    public Be32 ExtraDataSize { get; init; }
}

/// <summary>Fixed part of a snapshot table entry; extra data, id and name follow ("Snapshots").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Qcow2SnapshotEntry
{
    /// <summary>Where the snapshot's L1 table is.</summary>
    public Be64 L1TableOffset { get; init; }

    /// <summary>Its entries.</summary>
    public Be32 L1Size { get; init; }

    /// <summary>Bytes of the id.</summary>
    public Be16 IdSize { get; init; }

    /// <summary>Bytes of the name.</summary>
    public Be16 NameSize { get; init; }

    /// <summary>Seconds since the Epoch.</summary>
    public Be32 DateSeconds { get; init; }

    /// <summary>Part of a second, ns.</summary>
    public Be32 DateNanoseconds { get; init; }

    /// <summary>Running time of the guest, ns.</summary>
    public Be64 VmClockNanoseconds { get; init; }

    /// <summary>Bytes of machine state, 32 bits.</summary>
    public Be32 VmStateSize { get; init; }

    /// <summary>Bytes of extra data.</summary>
    public Be32 ExtraDataSize { get; init; }
}
