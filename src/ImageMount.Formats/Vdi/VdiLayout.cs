using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Vdi;

/// <summary>
/// On-disk constants of VDI. There is no specification; the layout is what VirtualBox and QEMU agree on, and what the
/// forum's "All about VDIs" describes.
/// </summary>
internal static class VdiLayout
{
    /// <summary>Signature behind the text at the start.</summary>
    public const uint Signature = 0xbeda107f;

    /// <summary>Where the signature stands.</summary>
    public const int SignatureOffset = 64;

    /// <summary>Version 1.1, the only one that is still made.</summary>
    public const uint Version11 = 0x0001_0001;

    /// <summary>Version 0.1, of innotek's first releases: no offsets, the table right behind the header.</summary>
    public const uint Version01 = 0x0000_0001;

    /// <summary>Bytes before the header that the version describes.</summary>
    public const int PreHeaderSize = 72;

    /// <summary>Smallest header of version 1.1, counted from behind the pre-header.</summary>
    public const int MinHeaderSize = 384;

    /// <summary>Header with a second geometry, as it is made today.</summary>
    public const int HeaderSize = 400;

    /// <summary>Largest header believed.</summary>
    public const int MaxHeaderSize = 64 << 10;

    /// <summary>Entry of a block that is not stored.</summary>
    public const uint FreeBlock = 0xffff_ffff;

    /// <summary>Entry of a block that was discarded: zeroes, whatever the parent has.</summary>
    public const uint ZeroBlock = 0xffff_fffe;

    /// <summary>Size of a block that everybody makes.</summary>
    public const int BlockSize = 1 << 20;

    /// <summary>Most extra bytes before each block.</summary>
    public const int MaxBlockExtra = 1 << 20;

    /// <summary>Where version 1.1 keeps the number of stored blocks.</summary>
    public static readonly int CountOffset =
        PreHeaderSize + (int)Marshal.OffsetOf<VdiHeader11>(nameof(VdiHeader11.BlocksAllocated));

    /// <summary>Where version 1.1 keeps the id that changes whenever the disk is changed.</summary>
    public static readonly int ModifyIdOffset =
        PreHeaderSize + (int)Marshal.OffsetOf<VdiHeader11>(nameof(VdiHeader11.ModifyId));
}

/// <summary>What an image is.</summary>
internal enum VdiType : uint
{
    /// <summary>Blocks are stored when they are written.</summary>
    Dynamic = 1,

    /// <summary>All blocks are stored from the start.</summary>
    Static = 2,

    /// <summary>Changes of a parent that may be undone.</summary>
    Undo = 3,

    /// <summary>Changes of a parent.</summary>
    Differencing = 4,
}

/// <summary>16 bytes.</summary>
[InlineArray(16)]
internal struct VdiId
{
    private byte _first;
}

/// <summary>256 bytes of comment.</summary>
[InlineArray(256)]
internal struct VdiComment
{
    private byte _first;
}

/// <summary>Header of version 1.1, behind the pre-header; 384 bytes, often with a second geometry.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VdiHeader11
{
    public Le32 HeaderSize;
    public Le32 Type;
    public Le32 Flags;
    public VdiComment Comment;
    public Le32 TableOffset;
    public Le32 DataOffset;
    public Le32 Cylinders;
    public Le32 Heads;
    public Le32 Sectors;
    public Le32 SectorSize;
    public Le32 Unused;
    public Le64 DiskSize;
    public Le32 BlockSize;
    public Le32 BlockExtra;
    public Le32 Blocks;
    public Le32 BlocksAllocated;
    public VdiId CreateId;
    public VdiId ModifyId;
    public VdiId LinkId;
    public VdiId ParentModifyId;
}

/// <summary>Header of version 0.1, behind the pre-header; the table follows it, the blocks follow the table.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VdiHeader01
{
    public Le32 Type;
    public Le32 Flags;
    public VdiComment Comment;
    public Le32 Cylinders;
    public Le32 Heads;
    public Le32 Sectors;
    public Le32 SectorSize;
    public Le64 DiskSize;
    public Le32 BlockSize;
    public Le32 Blocks;
    public Le32 BlocksAllocated;
    public VdiId CreateId;
    public VdiId ModifyId;
    public VdiId LinkId;
}
