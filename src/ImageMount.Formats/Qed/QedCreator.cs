using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qed;

/// <summary>
/// Makes empty images: a cluster for the header with the parent's name in it, and an L1 table of zeroes. The header is
/// written last, so that what a crash leaves is not taken for an image.
/// </summary>
internal sealed class QedCreator : ImageCreator<QedCreateOptions>
{
    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, QedCreateOptions options, CancellationToken cancellationToken)
    {
        if (options.BackingFile is null && options.BackingFormat is not null)
        {
            throw Wrong("backing_fmt needs backing_file");
        }

        if (options is { BackingFile: not null, BackingFormat: not (null or "raw") })
        {
            context.Warn($"QED cannot record that the backing file is {options.BackingFormat}; it will be recognised "
                + "by its content");
        }

        await CreateAsync(context.File, options, cancellationToken).ConfigureAwait(false);
        int clusterBits = BitOperations.Log2((uint)options.ClusterSize);
        int describedBits = (3 * clusterBits) + (2 * (BitOperations.Log2((uint)options.TableSize) - 3));
        if (options.TableSize == 1 || describedBits >= 64)
        {
            context.Warn("QEMU does not open images with tables of one cluster, nor with tables that describe 2^64 bytes "
                + "and more");
        }
    }

    /// <summary>Makes an image in an empty file that can grow.</summary>
    internal static async ValueTask CreateAsync(
        BlockNode file, QedCreateOptions options, CancellationToken cancellationToken)
    {
        byte[] header = MakeHeader(options);
        long length = options.ClusterSize * (1L + options.TableSize);
        if (!await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, "a QED image needs a file that can grow");
        }

        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        await file.WriteAsync(0, header, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static byte[] MakeHeader(QedCreateOptions options)
    {
        Require(
            BitOperations.IsPow2(options.ClusterSize)
            && options.ClusterSize is >= QedLayout.MinClusterSize and <= QedLayout.MaxClusterSize,
            "cluster_size is a power of two, 4k…64M");
        Require(
            BitOperations.IsPow2(options.TableSize) && options.TableSize is >= 1 and <= QedLayout.MaxTableSize,
            "table_size is 1, 2, 4, 8 or 16");
        int bits = BitOperations.Log2((uint)options.ClusterSize);
        long most = QedHeader.MaxSize(new ClusterGeometry(bits, bits + BitOperations.Log2((uint)options.TableSize) - 3));
        Require(
            options.Size >= 0 && options.Size <= most,
            $"with this cluster_size and table_size, size is at most {most} bytes");
        byte[] backing = Encoding.UTF8.GetBytes(options.BackingFile ?? "");
        Require(backing.Length <= QedLayout.MaxBackingName, "backing_file has at most 1023 bytes");
        Require(options.BackingFile is null || backing.Length > 0, "backing_file is empty");
        int size = Unsafe.SizeOf<QedRawHeader>();
        var raw = new QedRawHeader
        {
            Magic = QedLayout.Magic,
            ClusterSize = (uint)options.ClusterSize,
            TableSize = (uint)options.TableSize,
            HeaderSize = 1,
            Features = (ulong)((backing.Length == 0 ? QedFeatures.None : QedFeatures.BackingFile)
                | (options.BackingFormat == "raw" ? QedFeatures.BackingIsRaw : QedFeatures.None)),
            L1TableOffset = (ulong)options.ClusterSize,
            ImageSize = (ulong)(options.Size + QedLayout.SectorSize - 1) & ~(QedLayout.SectorSize - 1UL),
            BackingNameOffset = backing.Length == 0 ? 0 : (uint)size,
            BackingNameSize = (uint)backing.Length,
        };
        var header = new byte[size + backing.Length];
        MemoryMarshal.Write(header, in raw);
        backing.CopyTo(header.AsSpan(size));
        return header;
    }

    private static void Require(bool condition, string rule)
    {
        if (!condition)
        {
            throw Wrong(rule);
        }
    }

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);
}
