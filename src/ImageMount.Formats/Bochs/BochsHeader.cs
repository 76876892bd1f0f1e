using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Bochs;

/// <summary>What the header says, validated.</summary>
internal sealed record BochsHeader
{
    /// <summary>1 or 2.</summary>
    public required int Version { get; init; }

    /// <summary>Bytes of the disk.</summary>
    public required long DiskSize { get; init; }

    /// <summary>Where the catalog is.</summary>
    public required long CatalogOffset { get; init; }

    /// <summary>Entries of the catalog; enough for the disk.</summary>
    public required int CatalogEntries { get; init; }

    /// <summary>Bytes of an extent.</summary>
    public required int ExtentSize { get; init; }

    /// <summary>Bytes of a bitmap, with its padding.</summary>
    public required int BitmapSize { get; init; }

    /// <summary>Extents of the disk.</summary>
    public int Extents => (int)((DiskSize + ExtentSize - 1) / ExtentSize);

    /// <summary>Where the first place for an extent is.</summary>
    public long DataOffset => CatalogOffset + ((long)CatalogEntries * sizeof(uint));

    /// <summary>Bytes of a place: the bitmap, then the extent.</summary>
    public long PlaceSize => BitmapSize + (long)ExtentSize;

    /// <summary>Reads and validates the header.</summary>
    public static async ValueTask<BochsHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int size = Marshal.SizeOf<BochsStoredHeader>();
        if (file.Length < size)
        {
            throw BlockException.Invalid("the file is too short for a Bochs disk", null, $"{file.Length} bytes");
        }

        using BufferLease bytes = BufferPool.Shared.Rent(size);
        await file.ReadAsync(0, bytes.Memory, cancellationToken).ConfigureAwait(false);
        CheckStrings(bytes.Span);
        return Validate(MemoryMarshal.Read<BochsStoredHeader>(bytes.Span), file.Length);
    }

    private static void CheckStrings(ReadOnlySpan<byte> header)
    {
        if (!header.StartsWith(BochsLayout.Magic))
        {
            throw BlockException.Invalid("this is not a Bochs disk", 0, null, "'Bochs Virtual HD Image'");
        }

        ReadOnlySpan<byte> type = header[32..];
        ReadOnlySpan<byte> subtype = header[48..];
        if (!type.StartsWith(BochsLayout.Type) || !subtype.StartsWith(BochsLayout.Growing))
        {
            throw BlockException.Unsupported(
                $"Bochs disks of type '{Text(type)}/{Text(subtype)}' (supported: Redolog/Growing)",
                "The other types hold changes to a second file: let Bochs commit them (bximage).");
        }
    }

    private static string Text(ReadOnlySpan<byte> padded)
    {
        padded = padded[..16];
        int end = padded.IndexOf((byte)0);
        return string.Concat(Encoding.Latin1.GetString(end < 0 ? padded : padded[..end])
            .Select(c => char.IsControl(c) ? '\uFFFD' : c));
    }

    private static BochsHeader Validate(in BochsStoredHeader stored, long fileLength)
    {
        if (stored.Version.Value is not (BochsLayout.Version1 or BochsLayout.Version2))
        {
            throw BlockException.Unsupported($"version 0x{stored.Version:x} of Bochs disks (supported: 1 and 2)");
        }

        bool isV1 = stored.Version == BochsLayout.Version1;
        ulong disk = isV1 ? stored.DiskSizeV1 : stored.DiskSizeV2;
        uint least = (uint)Marshal.SizeOf<BochsStoredHeader>();
        CheckRange("the header's size", stored.HeaderSize, least, BochsLayout.MaxHeader, 68);
        CheckRange("the number of catalog entries", stored.CatalogEntries, 1, BochsLayout.MaxCatalog, 72);
        CheckRange("the size of an extent", stored.ExtentSize, BochsLayout.SectorSize, BochsLayout.MaxExtent, 80);
        if (stored.ExtentSize % BochsLayout.SectorSize != 0)
        {
            throw BlockException.Invalid(
                "the size of an extent is not whole sectors", 80, $"{stored.ExtentSize}", "a multiple of 512");
        }

        uint needed = ((stored.ExtentSize / BochsLayout.SectorSize) + 7) / 8;
        CheckRange("the size of a bitmap", stored.BitmapSize, needed, BochsLayout.MaxBitmap, 76);
        if (disk > (ulong)stored.CatalogEntries * stored.ExtentSize)
        {
            throw BlockException.Invalid("the catalog is too small for the disk", isV1 ? 84 : 88,
                $"{disk} bytes", $"at most {(ulong)stored.CatalogEntries * stored.ExtentSize}");
        }

        var header = new BochsHeader
        {
            Version = isV1 ? 1 : 2,
            DiskSize = (long)disk,
            CatalogOffset = stored.HeaderSize,
            CatalogEntries = (int)stored.CatalogEntries.Value,
            ExtentSize = (int)stored.ExtentSize.Value,
            BitmapSize = (int)(stored.BitmapSize + BochsLayout.SectorSize - 1) & -BochsLayout.SectorSize,
        };
        return header.DataOffset <= fileLength
            ? header
            : throw BlockException.Invalid(
                "the file ends inside the catalog", stored.HeaderSize, $"{fileLength} bytes", $"{header.DataOffset}");
    }

    private static void CheckRange(string what, uint value, uint least, uint most, long offset)
    {
        if (value < least || value > most)
        {
            throw BlockException.Invalid($"{what} is impossible", offset, $"{value}", $"{least} to {most}");
        }
    }
}
