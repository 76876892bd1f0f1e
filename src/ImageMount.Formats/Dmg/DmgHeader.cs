using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Dmg;

/// <summary>A checksum of an image.</summary>
/// <param name="Type">0: none; <see cref="DmgLayout.ChecksumCrc32"/>; others are not verified.</param>
/// <param name="Value">The CRC-32.</param>
internal readonly record struct DmgChecksum(uint Type, uint Value)
{
    /// <summary>True when it can be verified.</summary>
    public bool IsCrc32 => Type == DmgLayout.ChecksumCrc32;

    /// <summary>The checksum as it is stored.</summary>
    public static DmgChecksum From(in DmgStoredChecksum stored) => new(stored.Type, stored.Value);

    /// <inheritdoc/>
    public override string ToString() => Type switch
    {
        0 => "none",
        DmgLayout.ChecksumCrc32 => $"crc32:{Value:x8}",
        _ => $"type {Type}",
    };
}

/// <summary>What the trailer of an image, or of a segment, says; every place in it lies inside the file.</summary>
internal sealed record DmgHeader
{
    /// <summary>Where this file's part of the data fork begins in that of the whole image.</summary>
    public required long RunningOffset { get; init; }

    /// <summary>Where the data fork is in this file.</summary>
    public required long DataOffset { get; init; }

    /// <summary>Bytes of the data fork in this file.</summary>
    public required long DataLength { get; init; }

    /// <summary>Where the binary resource fork is.</summary>
    public required long ResourceOffset { get; init; }

    /// <summary>Its bytes; 0 when there is none.</summary>
    public required long ResourceLength { get; init; }

    /// <summary>Where the property list is.</summary>
    public required long PropertyOffset { get; init; }

    /// <summary>Its bytes; 0 when there is none.</summary>
    public required long PropertyLength { get; init; }

    /// <summary>1 for the first and for an image that is not segmented.</summary>
    public required int SegmentNumber { get; init; }

    /// <summary>1 for an image that is not segmented.</summary>
    public required int SegmentCount { get; init; }

    /// <summary>What the segments of an image have in common.</summary>
    public required UInt128 SegmentId { get; init; }

    /// <summary>Of the data fork in this file.</summary>
    public required DmgChecksum DataChecksum { get; init; }

    /// <summary>Of the tables' checksums.</summary>
    public required DmgChecksum MasterChecksum { get; init; }

    /// <summary>Sectors of the disk.</summary>
    public required long Sectors { get; init; }

    /// <summary>1: a whole disk, 2: a partition.</summary>
    public required uint Variant { get; init; }

    /// <summary>Reads and validates the trailer of a file.</summary>
    public static async ValueTask<DmgHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        long at = file.Length - DmgLayout.TrailerSize;
        if (at < 0)
        {
            throw NoTrailer(file, []);
        }

        using BufferLease bytes = BufferPool.Shared.Rent(DmgLayout.TrailerSize);
        await file.ReadAsync(at, bytes.Memory, cancellationToken).ConfigureAwait(false);
        DmgTrailer trailer = MemoryMarshal.Read<DmgTrailer>(bytes.Span);
        if (trailer.Magic != DmgLayout.TrailerMagic)
        {
            int head = (int)Math.Min(8, file.Length);
            await file.ReadAsync(0, bytes.Memory[..head], cancellationToken).ConfigureAwait(false);
            throw NoTrailer(file, bytes.Span[..head]);
        }

        try
        {
            return Validate(trailer, at);
        }
        catch (BlockException e)
        {
            e.Stamp(file.Name, null);
            throw;
        }
    }

    private static BlockException NoTrailer(BlockNode file, ReadOnlySpan<byte> head)
    {
        string hint = head.StartsWith("encrcdsa"u8)
            ? "It is encrypted: open it with driver=encrcdsa."
            : head.StartsWith("koly"u8)
                ? "The trailer is at its beginning: the program that made the image did not finish."
                : "If it is a plain disk that is only called .dmg, open it with driver=raw.";
        var e = new BlockException(BlockErrorKind.InvalidData, "there is no UDIF trailer at the end of the file")
        {
            Offset = Math.Max(0, file.Length - DmgLayout.TrailerSize),
            Expected = "'koly'",
            Hint = hint,
        };
        e.Stamp(file.Name, null);
        return e;
    }

    private static DmgHeader Validate(in DmgTrailer trailer, long at)
    {
        if (trailer.Version != DmgLayout.Version)
        {
            throw BlockException.Unsupported($"UDIF version {trailer.Version} (supported: {DmgLayout.Version})");
        }

        if (trailer.HeaderSize != DmgLayout.TrailerSize)
        {
            throw BlockException.Invalid(
                "the length of the trailer is wrong", at + 8, $"{trailer.HeaderSize}", $"{DmgLayout.TrailerSize}");
        }

        CheckInside("the data fork", trailer.DataForkOffset, trailer.DataForkLength, at, 24);
        CheckInside("the resource fork", trailer.ResourceForkOffset, trailer.ResourceForkLength, at, 40);
        CheckInside("the property list", trailer.PropertyListOffset, trailer.PropertyListLength, at, 216);
        ulong properties = Math.Max(trailer.PropertyListLength, trailer.ResourceForkLength);
        if (properties > DmgLayout.MaxPropertyBytes)
        {
            throw BlockException.Limit(
                "the property list is too large", (long)properties, DmgLayout.MaxPropertyBytes, at + 224);
        }

        if (trailer.SectorCount > DmgLayout.MaxSectors)
        {
            throw BlockException.Limit("the disk is too large (sectors)",
                (long)Math.Min(trailer.SectorCount, long.MaxValue), (long)DmgLayout.MaxSectors, at + 492);
        }

        uint count = Math.Max(trailer.SegmentCount, 1);
        uint number = Math.Max(trailer.SegmentNumber, 1);
        if (count > DmgLayout.MaxSegments)
        {
            throw BlockException.Limit("the image has too many segments", count, DmgLayout.MaxSegments, at + 60);
        }

        if (number > count || trailer.RunningDataForkOffset > long.MaxValue / 2)
        {
            throw BlockException.Invalid(
                "the segment's place in the image is impossible", at + 56,
                $"segment {number} of {count} at {trailer.RunningDataForkOffset}");
        }

        return new DmgHeader
        {
            RunningOffset = (long)trailer.RunningDataForkOffset.Value,
            DataOffset = (long)trailer.DataForkOffset.Value,
            DataLength = (long)trailer.DataForkLength.Value,
            ResourceOffset = (long)trailer.ResourceForkOffset.Value,
            ResourceLength = (long)trailer.ResourceForkLength.Value,
            PropertyOffset = (long)trailer.PropertyListOffset.Value,
            PropertyLength = (long)trailer.PropertyListLength.Value,
            SegmentNumber = (int)number,
            SegmentCount = (int)count,
            SegmentId = trailer.SegmentId,
            DataChecksum = DmgChecksum.From(trailer.DataChecksum),
            MasterChecksum = DmgChecksum.From(trailer.MasterChecksum),
            Sectors = (long)trailer.SectorCount.Value,
            Variant = trailer.ImageVariant,
        };
    }

    private static void CheckInside(string what, ulong offset, ulong length, long end, int field)
    {
        if (length > (ulong)end || offset > (ulong)end - length)
        {
            throw BlockException.Invalid(
                $"{what} lies outside the file", end + field, $"{length} bytes at 0x{offset:x}", $"before 0x{end:x}");
        }
    }
}
