using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Layout;

/// <summary>DIR_Attr ("FAT Directory Structure").</summary>
[Flags]
internal enum FatAttributes : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>ATTR_READ_ONLY.</summary>
    ReadOnly = 0x01,

    /// <summary>ATTR_HIDDEN.</summary>
    Hidden = 0x02,

    /// <summary>ATTR_SYSTEM.</summary>
    System = 0x04,

    /// <summary>ATTR_VOLUME_ID: the label of the volume, only in the root folder.</summary>
    VolumeId = 0x08,

    /// <summary>ATTR_DIRECTORY.</summary>
    Directory = 0x10,

    /// <summary>ATTR_ARCHIVE: changed since the last backup.</summary>
    Archive = 0x20,

    /// <summary>ATTR_LONG_NAME: the entry is a part of a long name.</summary>
    LongName = ReadOnly | Hidden | System | VolumeId,

    /// <summary>ATTR_LONG_NAME_MASK: the bits to look at before comparing with <see cref="LongName"/>.</summary>
    LongNameMask = LongName | Directory | Archive,
}

/// <summary>DIR_NTRes: which parts of a short name without a long one are shown in lower case.</summary>
[Flags]
internal enum NameCase : byte
{
    /// <summary>As stored.</summary>
    None = 0,

    /// <summary>The name before the dot.</summary>
    LowerBase = 0x08,

    /// <summary>The extension.</summary>
    LowerExtension = 0x10,
}

/// <summary>An entry of a directory, 32 bytes ("FAT Directory Structure").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct DirectoryEntry
{
    /// <summary>First byte of the name: this entry is free, and so are all after it.</summary>
    public const byte EndMark = 0x00;

    /// <summary>First byte of the name: this entry is free.</summary>
    public const byte FreeMark = 0xe5;

    /// <summary>First byte of the name in place of <see cref="FreeMark"/>, which a character may have.</summary>
    public const byte KanjiMark = 0x05;

    /// <summary>DIR_Name.</summary>
    public ShortName83 Name;

    /// <summary>DIR_Attr.</summary>
    public FatAttributes Attributes;

    /// <summary>DIR_NTRes.</summary>
    public NameCase Case;

    /// <summary>DIR_CrtTimeTenth, …, DIR_LstAccDate: the times, but for the high half of the cluster among them.</summary>
    public byte CreationHundredths;
    public Le16 CreationTime;
    public Le16 CreationDate;
    public Le16 AccessDate;

    /// <summary>DIR_FstClusHI; 0 in FAT12 and FAT16.</summary>
    public Le16 FirstClusterHigh;

    /// <summary>DIR_WrtTime.</summary>
    public Le16 WriteTime;

    /// <summary>DIR_WrtDate.</summary>
    public Le16 WriteDate;

    /// <summary>DIR_FstClusLO.</summary>
    public Le16 FirstClusterLow;

    /// <summary>DIR_FileSize, bytes; 0 for folders.</summary>
    public Le32 Size;

    /// <summary>The first cluster; 0 when there is none.</summary>
    public uint FirstCluster
    {
        readonly get => (uint)(FirstClusterHigh << 16) | FirstClusterLow;
        set
        {
            FirstClusterHigh = (ushort)(value >> 16);
            FirstClusterLow = (ushort)value;
        }
    }

    /// <summary>The times.</summary>
    public FatTimestamps Times
    {
        readonly get => new(WriteDate, WriteTime, CreationDate, CreationTime, CreationHundredths, AccessDate);
        set
        {
            (WriteDate, WriteTime) = (value.WriteDate, value.WriteTime);
            (CreationDate, CreationTime) = (value.CreationDate, value.CreationTime);
            (CreationHundredths, AccessDate) = (value.CreationHundredths, value.AccessDate);
        }
    }

    /// <summary>True for a part of a long name.</summary>
    public readonly bool IsLongName => (Attributes & FatAttributes.LongNameMask) == FatAttributes.LongName;
}

/// <summary>Five characters of UTF-16.</summary>
[InlineArray(5)]
internal struct Units5
{
    private Le16 _first;
}

/// <summary>Six characters of UTF-16.</summary>
[InlineArray(6)]
internal struct Units6
{
    private Le16 _first;
}

/// <summary>Two characters of UTF-16.</summary>
[InlineArray(2)]
internal struct Units2
{
    private Le16 _first;
}

/// <summary>
/// A part of a long name, 32 bytes, 13 units of UTF-16 ("FAT Long Directory Entries"). The parts stand before the entry
/// with the short name, the last part first.
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct LongNameEntry
{
    /// <summary>Units in one part.</summary>
    public const int UnitCount = 13;

    /// <summary>Bit of <see cref="Order"/> in the last part, which stands first.</summary>
    public const byte LastMark = 0x40;

    /// <summary>LDIR_Ord: number of the part, from 1.</summary>
    public byte Order;

    /// <summary>LDIR_Name1.</summary>
    public Units5 Units1;

    /// <summary>LDIR_Attr, <see cref="FatAttributes.LongName"/>.</summary>
    public FatAttributes Attributes;

    /// <summary>LDIR_Type, 0.</summary>
    public byte Type;

    /// <summary>LDIR_Chksum of the short name that follows.</summary>
    public byte Checksum;

    /// <summary>LDIR_Name2.</summary>
    public Units6 Units2;

    /// <summary>LDIR_FstClusLO, 0.</summary>
    public Le16 FirstCluster;

    /// <summary>LDIR_Name3.</summary>
    public Units2 Units3;

    /// <summary>True when the attributes say that this is a part of a long name.</summary>
    public readonly bool IsPart => (Attributes & FatAttributes.LongNameMask) == FatAttributes.LongName;

    /// <summary>A unit by its place in the part, 0…12.</summary>
    public ushort this[int index]
    {
        readonly get => index switch
        {
            < 5 => Units1[index],
            < 11 => Units2[index - 5],
            _ => Units3[index - 11],
        };
        set
        {
            switch (index)
            {
                case < 5:
                    Units1[index] = value;
                    break;
                case < 11:
                    Units2[index - 5] = value;
                    break;
                default:
                    Units3[index - 11] = value;
                    break;
            }
        }
    }
}
