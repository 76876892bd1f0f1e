using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qcow;

/// <summary>
/// Makes empty images: header, the parent's name, an L1 table of zeroes. The header is written last, so that what a
/// crash leaves is not taken for an image. Sizes of clusters and tables are those that everybody uses: 4 KiB clusters,
/// or 512 bytes over a parent, and tables for 2 MiB of disk.
/// </summary>
internal sealed class QcowCreator : ImageCreator<QcowCreateOptions>
{
    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, QcowCreateOptions options, CancellationToken cancellationToken)
    {
        if (options.BackingFile is null && options.BackingFormat is not null)
        {
            throw Wrong("backing_fmt needs backing_file");
        }

        if (options.BackingFormat is not null)
        {
            context.Warn("a qcow image cannot record the format of its backing file; it will be recognised by its content");
        }

        if (options.IsEncrypted)
        {
            context.Secrets.NewPassphrase(options.KeySecret, context.FileName);
            context.Warn(OldQcowCipher.Warning);
        }

        int clusterBits = options.BackingFile is null ? QcowLayout.NewClusterBits : QcowLayout.NewChildClusterBits;
        await CreateAsync(
            context.File, options, new ClusterGeometry(clusterBits, 21 - clusterBits), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Makes an image in an empty file that can grow.</summary>
    internal static async ValueTask CreateAsync(
        BlockNode file, QcowCreateOptions options, ClusterGeometry geometry, CancellationToken cancellationToken)
    {
        byte[] backing = Encoding.UTF8.GetBytes(options.BackingFile ?? "");
        if (backing.Length > QcowLayout.MaxBackingName || (options.BackingFile is not null && backing.Length == 0))
        {
            throw Wrong("backing_file has 1…1023 bytes");
        }

        if (options.IsEncrypted && options.Size % PayloadCipher.Sector != 0)
        {
            throw Wrong("an encrypted disk is a multiple of 512 bytes long");
        }

        long entries = options.Size < 0 ? long.MaxValue : geometry.L1EntriesFor(options.Size);
        if (entries > QcowLayout.MaxL1Entries)
        {
            throw Wrong($"size is 0…{(long)QcowLayout.MaxL1Entries << geometry.L1Shift} bytes");
        }

        int tableOffset = (QcowLayout.HeaderSize + backing.Length + 7) & -8;
        var raw = new QcowRawHeader
        {
            Magic = QcowLayout.Magic,
            Version = QcowLayout.Version,
            BackingFileOffset = backing.Length == 0 ? 0UL : QcowLayout.HeaderSize,
            BackingFileSize = (uint)backing.Length,
            Size = (ulong)options.Size,
            ClusterBits = (byte)geometry.ClusterBits,
            L2Bits = (byte)geometry.L2Bits,
            CryptMethod = options.IsEncrypted ? QcowLayout.CryptAes : QcowLayout.CryptNone,
            L1TableOffset = (ulong)tableOffset,
        };
        var header = new byte[QcowLayout.HeaderSize + backing.Length];
        MemoryMarshal.Write(header, in raw);
        backing.CopyTo(header.AsSpan(QcowLayout.HeaderSize));
        long length = geometry.RoundUp(tableOffset + (entries * sizeof(ulong)));
        if (!await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, "a qcow image needs a file that can grow");
        }

        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        await file.WriteAsync(0, header, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);
}
