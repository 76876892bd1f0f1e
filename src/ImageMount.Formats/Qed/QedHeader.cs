using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qed;

/// <summary>The validated, immutable facts of a header ("Header").</summary>
internal sealed class QedHeader
{
    private QedHeader(in QedRawHeader raw, string? backingFile)
    {
        Geometry = new ClusterGeometry(
            BitOperations.Log2(raw.ClusterSize.Value),
            BitOperations.Log2(raw.ClusterSize.Value) + BitOperations.Log2(raw.TableSize.Value) - 3);
        HeaderBytes = (long)raw.HeaderSize.Value * raw.ClusterSize.Value;
        TableSize = (int)raw.TableSize.Value;
        Features = (QedFeatures)raw.Features.Value;
        CompatFeatures = raw.CompatFeatures;
        AutoclearFeatures = raw.AutoclearFeatures;
        L1Offset = (long)raw.L1TableOffset.Value;
        Size = (long)raw.ImageSize.Value;
        BackingFile = backingFile;
    }

    /// <summary>Sizes.</summary>
    public ClusterGeometry Geometry { get; }

    /// <summary>Bytes of the header's clusters.</summary>
    public long HeaderBytes { get; }

    /// <summary>Clusters of a table.</summary>
    public int TableSize { get; }

    /// <summary>Features.</summary>
    public QedFeatures Features { get; }

    /// <summary>Compatible features: not ours, kept.</summary>
    public ulong CompatFeatures { get; }

    /// <summary>Auto-clear features: none is known, so a writer clears them.</summary>
    public ulong AutoclearFeatures { get; }

    /// <summary>Where the L1 table is.</summary>
    public long L1Offset { get; }

    /// <summary>Size of the disk, bytes.</summary>
    public long Size { get; }

    /// <summary>Parent as written in the image, or null.</summary>
    public string? BackingFile { get; }

    /// <summary>Format of the parent, or null when it has to be recognised.</summary>
    public string? BackingFormat =>
        BackingFile is not null && (Features & QedFeatures.BackingIsRaw) != 0 ? "raw" : null;

    /// <summary>True when the image was not closed by who wrote it last.</summary>
    public bool NeedsCheck => (Features & QedFeatures.NeedCheck) != 0;

    /// <summary>Largest disk that tables of this geometry describe, bytes, and that this program can address.</summary>
    public static long MaxSize(ClusterGeometry geometry)
    {
        int bits = geometry.L1Shift + geometry.L2Bits;
        return bits >= 63 ? (long.MaxValue >> geometry.L1Shift) << geometry.L1Shift : 1L << bits;
    }

    /// <summary>Reads and checks the header.</summary>
    /// <exception cref="BlockException">InvalidData or NotSupported, with the place in the file.</exception>
    public static async ValueTask<QedHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int size = Unsafe.SizeOf<QedRawHeader>();
        if (file.Length < size)
        {
            throw BlockException.Invalid("the file is too short for a header", 0, $"{file.Length} bytes", $"{size} bytes");
        }

        using BufferLease head = BufferPool.Shared.Rent(size);
        await file.ReadAsync(0, head.Memory, cancellationToken).ConfigureAwait(false);
        QedRawHeader raw = MemoryMarshal.Read<QedRawHeader>(head.Span);
        Check(raw, file.Length);
        string? backing = ((QedFeatures)raw.Features.Value & QedFeatures.BackingFile) == 0
            ? null : await ReadNameAsync(file, raw, cancellationToken).ConfigureAwait(false);
        return new QedHeader(raw, backing);
    }

    private static void Check(in QedRawHeader raw, long fileLength)
    {
        Require(raw.Magic == QedLayout.Magic, "there is no magic of QED", 0, $"0x{raw.Magic.Value:x8}", "QED\\0");
        ulong unknown = raw.Features & ~(ulong)QedFeatures.Known;
        if (unknown != 0)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "the image uses features that are not known")
            {
                Offset = QedLayout.FeaturesField,
                Found = $"0x{unknown:x}",
            };
        }

        uint cluster = raw.ClusterSize;
        uint table = raw.TableSize;
        Require(
            BitOperations.IsPow2(cluster) && cluster is >= QedLayout.MinClusterSize and <= QedLayout.MaxClusterSize,
            "the cluster size is wrong", 4, $"{cluster}", "a power of two, 4096…67108864");
        Require(
            BitOperations.IsPow2(table) && table is >= 1 and <= QedLayout.MaxTableSize,
            "the table size is wrong", 8, $"{table}", "1, 2, 4, 8 or 16 clusters");
        long mostHeader = Math.Min(fileLength / cluster, QedLayout.MaxHeaderClusters);
        Require(
            raw.HeaderSize >= 1 && raw.HeaderSize <= mostHeader, "the header's size is wrong", 12,
            $"{raw.HeaderSize.Value} clusters", $"1…{mostHeader}");
        ulong headerBytes = (ulong)raw.HeaderSize.Value * cluster;
        ulong l1 = raw.L1TableOffset;
        ulong tableBytes = (ulong)table * cluster;
        Require(
            l1 % cluster == 0 && l1 >= headerBytes && l1 <= (ulong)fileLength && tableBytes <= (ulong)fileLength - l1,
            "the L1 table is not in the file", 40, $"0x{l1:x}+0x{tableBytes:x}", $"0x{headerBytes:x}…0x{fileLength:x}");
        var geometry = new ClusterGeometry(
            BitOperations.Log2(cluster), BitOperations.Log2(cluster) + BitOperations.Log2(table) - 3);
        ulong size = raw.ImageSize;
        Require(
            size % QedLayout.SectorSize == 0 && size <= (ulong)MaxSize(geometry), "the size of the disk is wrong",
            QedLayout.ImageSizeField, $"0x{size:x}", $"a multiple of 512 up to 0x{MaxSize(geometry):x}");
    }

    private static async ValueTask<string?> ReadNameAsync(
        BlockNode file, QedRawHeader raw, CancellationToken cancellationToken)
    {
        ulong end = (ulong)raw.BackingNameOffset.Value + raw.BackingNameSize.Value;
        Require(
            raw.BackingNameSize > 0 && end <= (ulong)raw.HeaderSize.Value * raw.ClusterSize.Value,
            "the name of the backing file is not in the header", 56,
            $"0x{raw.BackingNameOffset.Value:x}+{raw.BackingNameSize.Value}", "a place in the header");
        if (raw.BackingNameSize > QedLayout.MaxBackingName)
        {
            throw BlockException.Limit(
                "the name of the backing file is too long", raw.BackingNameSize, QedLayout.MaxBackingName, 60);
        }

        using BufferLease name = BufferPool.Shared.Rent((int)raw.BackingNameSize.Value);
        await file.ReadAsync(raw.BackingNameOffset.Value, name.Memory, cancellationToken).ConfigureAwait(false);
        return Encoding.UTF8.GetString(name.Span);
    }

    private static void Require(bool condition, string what, long offset, string found, string expected)
    {
        if (!condition)
        {
            throw BlockException.Invalid(what, offset, found, expected);
        }
    }
}
