using System.Text;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Plan;

/// <summary>A file or folder of a plan: a view of the table, good as long as the plan.</summary>
/// <param name="table">Where it is kept.</param>
/// <param name="index">Its number there.</param>
internal readonly struct PlannedEntry(EntryTable table, int index)
{
    /// <summary>Its number in <see cref="FatPlan.Entries"/>.</summary>
    public int Index => index;

    /// <summary>Number of the folder it is in; 0 is the root folder, which is its own.</summary>
    public int Parent => table[index].Parent;

    /// <summary>A folder.</summary>
    public bool IsDirectory => (Attributes & FatAttributes.Directory) != 0;

    /// <summary>Folders: the first of its entries, <see cref="ChildCount"/> in a row.</summary>
    public int FirstChild => table[index].FirstChild;

    /// <summary>Folders: how many entries it has.</summary>
    public int ChildCount => table[index].ChildCount;

    /// <summary>
    /// First cluster of its chain, which is contiguous; 0 for an empty file and for the root folder of FAT12 and FAT16.
    /// </summary>
    public uint FirstCluster => table[index].FirstCluster;

    /// <summary>
    /// Bytes: of a file as its directory entry says, of a folder what its entries take (its directory entry says 0).
    /// </summary>
    public uint Size => table[index].Size;

    /// <summary>Size on the host when the plan was made, bytes.</summary>
    public long HostSize => table[index].HostSize;

    /// <summary>When it was last written on the host, as of the plan, nanoseconds since 1970.</summary>
    public long HostModifiedNs => table[index].HostModifiedNs;

    /// <summary>When anything of it last changed on the host, as of the plan, nanoseconds since 1970.</summary>
    public long HostChangedNs => table[index].HostChangedNs;

    /// <summary>Inode on the host.</summary>
    public ulong HostInode => table[index].HostInode;

    /// <summary>Device on the host: major number in the high 32 bits, minor in the low ones.</summary>
    public ulong HostDevice => table[index].HostDevice;

    /// <summary>Attributes on the disk.</summary>
    public FatAttributes Attributes => table[index].Attributes;

    /// <summary>Name in the folder of the host; bytes that are no text are shown as U+FFFD, see
    /// <see cref="HostNameBytes"/>.</summary>
    public string HostName => Encoding.UTF8.GetString(table.HostNameOf(index));

    /// <summary>Name in the folder of the host as it really is.</summary>
    public ReadOnlySpan<byte> HostNameBytes => table.HostNameOf(index);

    /// <summary>Name on the disk; the host's, unless that cannot be on a FAT volume.</summary>
    public string LongName => table.LongNameOf(index);

    /// <summary>False when the short name, with its case, says it all, and there are no entries for a long one.</summary>
    public bool HasLongName => table[index].LongUnits > 0;

    /// <summary>Short name on the disk.</summary>
    public ShortName83 ShortName => table[index].ShortName;

    /// <summary>Case of the short name, where there is no long one.</summary>
    public NameCase Case => table[index].Case;

    /// <summary>Times on the disk.</summary>
    public FatTimestamps Times => table[index].Times;
}
