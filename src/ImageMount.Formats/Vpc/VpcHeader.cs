using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vpc;

/// <summary>A place where a child looks for its parent.</summary>
/// <param name="Platform">"Platform Code".</param>
/// <param name="Offset">Where the path stands in the file.</param>
/// <param name="Length">Its bytes.</param>
internal readonly record struct VpcLocator(uint Platform, long Offset, int Length);

/// <summary>The header of a dynamic or differencing disk, checked.</summary>
internal sealed record VpcHeader
{
    /// <summary>Where the checksum stands.</summary>
    public const int ChecksumOffset = 36;

    /// <summary>Where the header is.</summary>
    public required long Offset { get; init; }

    /// <summary>Where the block table is.</summary>
    public required long TableOffset { get; init; }

    /// <summary>Its entries.</summary>
    public required int Entries { get; init; }

    /// <summary>Bytes of a block.</summary>
    public required int BlockSize { get; init; }

    /// <summary>Who the parent is.</summary>
    public required Guid ParentId { get; init; }

    /// <summary>When the parent was last changed, seconds since 2000.</summary>
    public required uint ParentTimestamp { get; init; }

    /// <summary>The parent's file name, for people.</summary>
    public required string ParentName { get; init; }

    /// <summary>Where to look for the parent.</summary>
    public required IReadOnlyList<VpcLocator> Locators { get; init; }

    /// <summary>The checksum is right.</summary>
    public required bool IsSound { get; init; }

    /// <summary>Bytes of the bitmap before each block: a bit a sector, in whole sectors.</summary>
    public int BitmapSize => ((BlockSize / VpcLayout.SectorSize / 8) + 511) / 512 * 512;

    /// <summary>Reads and checks the header that the footer names.</summary>
    public static async ValueTask<VpcHeader> ReadAsync(
        BlockNode file, VpcFooter footer, CancellationToken cancellationToken)
    {
        if (footer.DataOffset % VpcLayout.SectorSize != 0 || footer.DataOffset < VpcLayout.FooterSize
            || footer.DataOffset > (ulong)Math.Max(0, file.Length - VpcLayout.HeaderSize))
        {
            throw BlockException.Invalid(
                "the header lies outside the file", 16,
                "0x" + footer.DataOffset.ToString("x", CultureInfo.InvariantCulture),
                $"0x200…0x{file.Length:x}, in sectors");
        }

        long offset = (long)footer.DataOffset;
        using BufferLease bytes = BufferPool.Shared.Rent(VpcLayout.HeaderSize);
        await file.ReadAsync(offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        return Parse(bytes.Span, offset);
    }

    /// <summary>What the engine has to know.</summary>
    public BlockTableLayout MakeLayout(BlockNode file, long length)
    {
        return new BlockTableLayout
        {
            Node = file,
            UnitName = "block",
            Length = length,
            UnitSize = BlockSize,
            TableOffset = TableOffset,
            Entries = Entries,
            IsBigEndian = true,
            EntryScale = VpcLayout.SectorSize,
            LeadSize = BitmapSize,
            FreeEntry = VpcLayout.FreeBlock,
            MaxEntry = VpcLayout.FreeBlock - 1,
            Reserved =
            [
                (0, VpcLayout.FooterSize),
                (Offset, Offset + VpcLayout.HeaderSize),
                (TableOffset, TableOffset + (((Entries * 4L) + 511) / 512 * 512)),
            ],
        };
    }

    /// <summary>Makes the bytes of a header.</summary>
    public static byte[] Make(VpcRawHeader raw)
    {
        var bytes = new byte[VpcLayout.HeaderSize];
        raw.Cookie = VpcLayout.HeaderCookie;
        raw.Version = VpcLayout.Version;
        raw.DataOffset = VpcLayout.NoOffset;
        raw.Checksum = 0;
        MemoryMarshal.Write(bytes, in raw);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(ChecksumOffset), VpcLayout.Checksum(bytes, ChecksumOffset));
        return bytes;
    }

    private static VpcHeader Parse(ReadOnlySpan<byte> bytes, long offset)
    {
        var reader = new SpanReader(bytes);
        if (!reader.TryRead(out VpcRawHeader raw) || raw.Cookie != VpcLayout.HeaderCookie)
        {
            throw BlockException.Invalid("the header of the dynamic disk is missing", offset, null, "'cxsparse'");
        }

        if (raw.Version >> 16 != VpcLayout.Version >> 16)
        {
            throw BlockException.Unsupported(
                $"version {raw.Version >> 16}.{raw.Version & 0xffff} of the header is not supported");
        }

        if (raw.BlockSize < VpcLayout.SectorSize || raw.BlockSize > BlockTableLayout.MaxUnitSize
            || !BitOperations.IsPow2(raw.BlockSize.Value))
        {
            throw BlockException.Invalid(
                "the block size is impossible", offset + 32, $"0x{raw.BlockSize.Value:x}",
                $"a power of two, 0x200…0x{BlockTableLayout.MaxUnitSize:x}");
        }

        if (raw.Entries > BlockTableLayout.MaxEntries)
        {
            throw BlockException.Limit(
                "the block table is too large", raw.Entries, BlockTableLayout.MaxEntries, offset + 28);
        }

        var locators = new List<VpcLocator>();
        for (int i = 0; i < 8; i++)
        {
            VpcRawLocator locator = raw.Locators[i];
            if (locator.Platform != 0 && locator.Length > 0 && locator.Length <= VpcLayout.MaxLocator
                && locator.Offset < long.MaxValue / 2)
            {
                locators.Add(new VpcLocator(locator.Platform, (long)locator.Offset.Value, (int)locator.Length.Value));
            }
        }

        string name = Encoding.BigEndianUnicode.GetString(raw.ParentName);
        int end = name.IndexOf('\0', StringComparison.Ordinal);
        return new VpcHeader
        {
            Offset = offset,
            TableOffset = raw.TableOffset <= long.MaxValue ? (long)raw.TableOffset.Value : -1,
            Entries = (int)raw.Entries.Value,
            BlockSize = (int)raw.BlockSize.Value,
            ParentId = new Guid(((ReadOnlySpan<byte>)raw.ParentId)[..16], bigEndian: true),
            ParentTimestamp = raw.ParentTimestamp,
            ParentName = end < 0 ? name : name[..end],
            Locators = locators,
            IsSound = raw.Checksum == VpcLayout.Checksum(bytes, ChecksumOffset),
        };
    }
}
