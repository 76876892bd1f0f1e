using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Qcow;

/// <summary>
/// On-disk constants of qcow, version 1 of QEMU's copy-on-write formats (M. McLoughlin, "The QCOW Image Format"), and
/// limits. Everything is big-endian.
/// </summary>
internal static class QcowLayout
{
    /// <summary>"QFI\xfb", shared with versions 2 and 3, which are another format (qcow2).</summary>
    public const uint Magic = 0x5146_49fb;

    /// <summary>The one version.</summary>
    public const uint Version = 1;

    /// <summary>Bytes of the header.</summary>
    public const int HeaderSize = 48;

    /// <summary>log2 of the smallest and largest cluster.</summary>
    public const int MinClusterBits = 9;

    /// <summary>See <see cref="MinClusterBits"/>.</summary>
    public const int MaxClusterBits = 16;

    /// <summary>log2 of the fewest and most entries of an L2 table.</summary>
    public const int MinL2Bits = 6;

    /// <summary>See <see cref="MinL2Bits"/>.</summary>
    public const int MaxL2Bits = 13;

    /// <summary>Most L1 entries: a table of 32 MiB, disks of 8 TiB as QEMU makes them.</summary>
    public const int MaxL1Entries = 4 << 20;

    /// <summary>Longest name of a backing file, bytes; QEMU's limit.</summary>
    public const int MaxBackingName = 1023;

    /// <summary>Unit in which tables and stored clusters are placed, bytes; writers use whole clusters.</summary>
    public const int Sector = 512;

    /// <summary>Set in an L2 entry whose cluster is compressed.</summary>
    public const ulong CompressedFlag = 1UL << 63;

    /// <summary>Where new clusters may end: bits above are the flag's and the sign's.</summary>
    public const long MaxEnd = 1L << 62;

    /// <summary>crypt_method of payload that is not encrypted.</summary>
    public const uint CryptNone = 0;

    /// <summary>crypt_method of payload in AES-128-CBC, the IV of each sector being its number.</summary>
    public const uint CryptAes = 1;

    /// <summary>log2 of the cluster size of new images, and of those with a parent: less to copy.</summary>
    public const int NewClusterBits = 12;

    /// <summary>See <see cref="NewClusterBits"/>.</summary>
    public const int NewChildClusterBits = 9;
}

/// <summary>The first bytes of an image.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct QcowRawHeader
{
    public Be32 Magic;
    public Be32 Version;

    /// <summary>0 for none.</summary>
    public Be64 BackingFileOffset;

    public Be32 BackingFileSize;

    /// <summary>Time of the backing file's last change; nobody uses it.</summary>
    public Be32 ModificationTime;

    /// <summary>Size of the disk, bytes.</summary>
    public Be64 Size;

    public byte ClusterBits;
    public byte L2Bits;
    public Be16 Padding;
    public Be32 CryptMethod;
    public Be64 L1TableOffset;
}
