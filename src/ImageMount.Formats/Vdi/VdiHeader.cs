using System.Globalization;
using System.Runtime.CompilerServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vdi;

/// <summary>The facts of a header that was checked.</summary>
internal sealed record VdiHeader
{
    /// <summary>Version: high half major, low half minor.</summary>
    public required uint Version { get; init; }

    /// <summary>What the image is.</summary>
    public required VdiType Type { get; init; }

    /// <summary>Size of the disk, bytes.</summary>
    public required long DiskSize { get; init; }

    /// <summary>Bytes of a block.</summary>
    public required int BlockSize { get; init; }

    /// <summary>Bytes before each block's payload.</summary>
    public required int BlockExtra { get; init; }

    /// <summary>Entries of the table.</summary>
    public required int Blocks { get; init; }

    /// <summary>Stored blocks as the header counts them.</summary>
    public required uint BlocksAllocated { get; init; }

    /// <summary>First byte behind the header.</summary>
    public required int HeaderEnd { get; init; }

    /// <summary>Where the table is.</summary>
    public required long TableOffset { get; init; }

    /// <summary>Where block 0 is.</summary>
    public required long DataOffset { get; init; }

    /// <summary>Who the image is.</summary>
    public required Guid CreateId { get; init; }

    /// <summary>Changes whenever the disk does.</summary>
    public required Guid ModifyId { get; init; }

    /// <summary>Who the parent is; empty without one.</summary>
    public required Guid LinkId { get; init; }

    /// <summary>The parent's <see cref="ModifyId"/> when the child was made; empty where it is not recorded.</summary>
    public required Guid ParentModifyId { get; init; }

    /// <summary>True when blocks that are not stored are the parent's.</summary>
    public bool HasParent => Type is VdiType.Differencing or VdiType.Undo || LinkId != Guid.Empty;

    /// <summary>Why the image is not written, or null.</summary>
    public string? WhyReadOnly => Version == VdiLayout.Version01
        ? "images of version 0.1 are only read: nobody makes them any more" : null;

    /// <summary>True when these bytes begin an image.</summary>
    public static bool HasSignature(ReadOnlySpan<byte> head)
    {
        var reader = new SpanReader(head);
        return reader.TrySeek(VdiLayout.SignatureOffset) && reader.TryRead(out Le32 signature)
            && signature == VdiLayout.Signature;
    }

    /// <summary>Reads and checks the header.</summary>
    public static async ValueTask<VdiHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int count = (int)Math.Min(file.Length, 512);
        using BufferLease head = BufferPool.Shared.Rent(512);
        await file.ReadAsync(0, head.Memory[..count], cancellationToken).ConfigureAwait(false);
        VdiHeader header = Parse(head.Span[..count]);
        header.MakeLayout(file).Validate();
        return header;
    }

    /// <summary>What the engine has to know.</summary>
    public BlockTableLayout MakeLayout(BlockNode file) => new()
    {
        Node = file,
        UnitName = "block",
        Length = DiskSize,
        UnitSize = BlockSize,
        TableOffset = TableOffset,
        Entries = Blocks,
        EntryBase = DataOffset,
        EntryScale = (long)BlockSize + BlockExtra,
        LeadSize = BlockExtra,
        FreeEntry = VdiLayout.FreeBlock,
        ZeroEntry = VdiLayout.ZeroBlock,
        MaxEntry = VdiLayout.ZeroBlock - 1,
        Reserved = [], // Blocks begin behind all metadata, which the header's checks have seen to.
    };

    private static VdiHeader Parse(ReadOnlySpan<byte> head)
    {
        var reader = new SpanReader(head);
        if (!HasSignature(head) || !reader.TrySeek(VdiLayout.SignatureOffset + 4) || !reader.TryRead(out Le32 version))
        {
            throw BlockException.Invalid("this is not a VDI image", VdiLayout.SignatureOffset);
        }

        return version.Value switch
        {
            VdiLayout.Version11 when reader.TryRead(out VdiHeader11 raw) => Check(raw),
            VdiLayout.Version01 when reader.TryRead(out VdiHeader01 raw) => Check(raw),
            VdiLayout.Version11 or VdiLayout.Version01 => throw BlockException.Invalid(
                "the file ends in its header", head.Length),
            _ => throw BlockException.Unsupported(
                $"VDI version {version.Value >> 16}.{version.Value & 0xffff} is not supported"),
        };
    }

    private static VdiHeader Check(VdiHeader11 raw)
    {
        if (raw.HeaderSize < VdiLayout.MinHeaderSize || raw.HeaderSize > VdiLayout.MaxHeaderSize)
        {
            throw Wrong(
                "the header's size is impossible", VdiLayout.PreHeaderSize, raw.HeaderSize,
                $"{VdiLayout.MinHeaderSize}…{VdiLayout.MaxHeaderSize}");
        }

        CheckSectorSize(raw.SectorSize);
        if (raw.BlockExtra > VdiLayout.MaxBlockExtra || raw.BlockExtra % 512 != 0)
        {
            throw BlockException.Unsupported($"{raw.BlockExtra} extra bytes before each block are not supported");
        }

        int headerEnd = VdiLayout.PreHeaderSize + (int)raw.HeaderSize.Value;
        var header = new VdiHeader
        {
            Version = VdiLayout.Version11,
            Type = CheckType(raw.Type),
            DiskSize = CheckSize(raw.DiskSize),
            BlockSize = CheckBlockSize(raw.BlockSize),
            BlockExtra = (int)raw.BlockExtra.Value,
            Blocks = CheckBlocks(raw.Blocks),
            BlocksAllocated = raw.BlocksAllocated,
            HeaderEnd = headerEnd,
            TableOffset = raw.TableOffset.Value,
            DataOffset = raw.DataOffset.Value,
            CreateId = ToGuid(raw.CreateId),
            ModifyId = ToGuid(raw.ModifyId),
            LinkId = ToGuid(raw.LinkId),
            ParentModifyId = ToGuid(raw.ParentModifyId),
        };
        long tableEnd = header.TableOffset + ((long)header.Blocks * sizeof(uint));
        if (header.TableOffset < headerEnd || header.TableOffset % 4 != 0)
        {
            throw Wrong("the block table lies over the header", 0x154, raw.TableOffset, $"0x{headerEnd:x} or more");
        }

        return header.DataOffset >= tableEnd && header.DataOffset % 512 == 0 ? header
            : throw Wrong(
                "the blocks begin inside the block table", 0x158, raw.DataOffset,
                $"0x{tableEnd:x} or more, in sectors");
    }

    private static VdiHeader Check(VdiHeader01 raw)
    {
        CheckSectorSize(raw.SectorSize);
        int headerEnd = VdiLayout.PreHeaderSize + Unsafe.SizeOf<VdiHeader01>();
        int blocks = CheckBlocks(raw.Blocks);
        return new VdiHeader
        {
            Version = VdiLayout.Version01,
            Type = CheckType(raw.Type),
            DiskSize = CheckSize(raw.DiskSize),
            BlockSize = CheckBlockSize(raw.BlockSize),
            BlockExtra = 0,
            Blocks = blocks,
            BlocksAllocated = raw.BlocksAllocated,
            HeaderEnd = headerEnd,
            TableOffset = headerEnd,
            DataOffset = headerEnd + ((long)blocks * sizeof(uint)),
            CreateId = ToGuid(raw.CreateId),
            ModifyId = ToGuid(raw.ModifyId),
            LinkId = ToGuid(raw.LinkId),
            ParentModifyId = Guid.Empty,
        };
    }

    private static VdiType CheckType(uint type) => type is >= (uint)VdiType.Dynamic and <= (uint)VdiType.Differencing
        ? (VdiType)type
        : throw Wrong("the image's type is not known", 0x4c, type, "1…4");

    private static void CheckSectorSize(uint size)
    {
        if (size != 512)
        {
            throw Wrong("the sector size is not supported", 0x168, size, "512");
        }
    }

    private static long CheckSize(ulong size) => size <= long.MaxValue
        ? (long)size
        : throw Wrong("the disk's size is impossible", 0x170, size, $"at most 0x{long.MaxValue:x}");

    private static int CheckBlockSize(uint size) =>
        size is >= 512 and <= BlockTableLayout.MaxUnitSize && size % 512 == 0
            ? (int)size
            : throw Wrong(
                "the block size is impossible", 0x178, size,
                $"a multiple of 512 up to 0x{BlockTableLayout.MaxUnitSize:x}");

    private static int CheckBlocks(uint blocks) => blocks <= BlockTableLayout.MaxEntries
        ? (int)blocks
        : throw BlockException.Limit("the block table is too large", blocks, BlockTableLayout.MaxEntries, 0x180);

    private static Guid ToGuid(in VdiId id) => new(((ReadOnlySpan<byte>)id)[..16]);

    private static BlockException Wrong(string what, long offset, ulong found, string expected) =>
        BlockException.Invalid(what, offset, "0x" + found.ToString("x", CultureInfo.InvariantCulture), expected);
}
