using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Formats.Luks;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Makes empty images: header, refcount table, refcount blocks and an L1 table of zeroes, in that order in the file.
/// The header is written last, so that what a crash leaves is not taken for an image.
/// </summary>
public static class Qcow2Creator
{
    /// <summary>Makes an image.</summary>
    /// <param name="file">Where; can be resized, or is large enough. What it holds is lost.</param>
    /// <param name="options">What it is to be like.</param>
    /// <param name="dataFile">The data file, when the options name one. What it holds is lost.</param>
    /// <param name="cancellationToken">Stops it; what is there then is not an image.</param>
    /// <param name="encryption">How the payload is encrypted, when the options say that it is.</param>
    /// <exception cref="BlockException">InvalidArgument: the options contradict each other.</exception>
    public static async ValueTask CreateAsync(
        BlockNode file, Qcow2CreateOptions options, BlockNode? dataFile, CancellationToken cancellationToken,
        Qcow2NewEncryption? encryption = null)
    {
        int version = CheckOptions(options, dataFile);
        var geometry = new Qcow2Geometry(
            BitOperations.Log2((uint)options.ClusterSize), BitOperations.Log2((uint)options.RefcountBits),
            options.ExtendedL2);
        Require(
            encryption is not null == (options.EncryptFormat is not null || options.Encryption),
            "encrypt.format and the key come together");
        Require(encryption is null || options.Size % 512 == 0, "an encrypted disk is a multiple of 512 bytes long");
        Require(encryption is null || !options.DataFileRaw, "data_file_raw and encryption exclude each other");
        Layout layout = Plan(geometry, options.Size, geometry.ClustersFor(encryption?.Length ?? 0));
        byte[] header = MakeHeader(options, version, geometry, layout, encryption);
        await PrepareAsync(file, layout.Clusters << geometry.ClusterBits, cancellationToken).ConfigureAwait(false);
        await WriteRefcountsAsync(file, geometry, layout, cancellationToken).ConfigureAwait(false);
        if (encryption?.Luks is { } luks)
        {
            var area = new LuksArea(file, layout.EncryptionStart << geometry.ClusterBits, encryption.Length);
            await luks.WriteAsync(area, cancellationToken).ConfigureAwait(false);
        }

        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        await file.WriteAsync(0, header, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        if (dataFile is not null)
        {
            await PrepareAsync(dataFile, options.Size, cancellationToken).ConfigureAwait(false);
        }

        if (options.DataFileRaw)
        {
            await MapDataFileAsync(file, dataFile!, cancellationToken).ConfigureAwait(false);
        }
    }

    private static int CheckOptions(Qcow2CreateOptions o, BlockNode? dataFile)
    {
        int version = o.Compat switch
        {
            "0.10" or "v2" or "2" => 2,
            "1.1" or "v3" or "3" => 3,
            _ => throw Wrong($"compat '{o.Compat}' is not known; it is 0.10 or 1.1"),
        };
        Require(
            BitOperations.IsPow2(o.ClusterSize) && o.ClusterSize is >= 512 and <= 2 << 20,
            "cluster_size is a power of two, 512…2M");
        Require(
            BitOperations.IsPow2(o.RefcountBits) && o.RefcountBits is >= 1 and <= 64,
            "refcount_bits is a power of two, 1…64");
        Require(o.CompressionType is "zlib" or "zstd", "compression_type is zlib or zstd");
        Require(o.Size >= 0, "size is not negative");
        bool needs3 = o.RefcountBits != 16 || o.LazyRefcounts || o.ExtendedL2 || o.DataFile is not null
            || o.CompressionType != "zlib";
        Require(
            version == 3 || !needs3,
            "refcount_bits, lazy_refcounts, extended_l2, data_file and compression_type need compat=1.1");
        Require(!o.ExtendedL2 || o.ClusterSize >= 16 << 10, "extended_l2 needs clusters of 16k or more");
        Require(!o.DataFileRaw || o.DataFile is not null, "data_file_raw needs data_file");
        Require(!o.DataFileRaw || o.BackingFile is null, "data_file_raw and backing_file exclude each other");
        Require(o.BackingFormat is null || o.BackingFile is not null, "backing_fmt needs backing_file");
        Require(o.DataFile is null == dataFile is null, "data_file and the file itself come together");
        Require(
            Encoding.UTF8.GetByteCount(o.BackingFile ?? "") <= Qcow2Layout.MaxBackingNameLength,
            "backing_file has at most 1023 bytes");
        return version;
    }

    private static Layout Plan(Qcow2Geometry geometry, long size, long encryption)
    {
        long entries = Math.Max(1, geometry.L1EntriesFor(size)); // A table of nothing would have no place to be.
        Require(entries <= Qcow2Layout.MaxL1Bytes / 8, "the disk is too large for its cluster size");
        long l1 = geometry.ClustersFor(entries * 8);
        long blocks = 1;
        long table = 1;
        while (true)
        {
            long clusters = 1 + table + blocks + l1 + encryption;
            long neededBlocks = (clusters - 1 >> geometry.RefcountBlockBits) + 1;
            long neededTable = geometry.ClustersFor(neededBlocks * 8);
            if (neededBlocks == blocks && neededTable == table)
            {
                return new Layout((int)table, (int)blocks, (int)entries, clusters, clusters - encryption);
            }

            blocks = Math.Max(blocks, neededBlocks);
            table = Math.Max(table, neededTable);
            if (blocks > neededBlocks || table > neededTable)
            {
                clusters = 1 + table + blocks + l1 + encryption;
                return new Layout((int)table, (int)blocks, (int)entries, clusters, clusters - encryption);
            }
        }
    }

    private static async ValueTask PrepareAsync(BlockNode file, long length, CancellationToken cancellationToken)
    {
        if ((file.Capabilities & BlockCapabilities.Resize) != 0)
        {
            await file.TryResizeAsync(0, cancellationToken).ConfigureAwait(false);
            await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false);
        }
        else if (file.Length >= length)
        {
            await file.ZeroAsync(0, length, ZeroFlags.MayUnmap, cancellationToken).ConfigureAwait(false);
        }

        if (file.Length < length)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the file is too small for the image")
            {
                Found = $"0x{file.Length:x}",
                Expected = $"0x{length:x}",
            };
        }
    }

    private static async ValueTask WriteRefcountsAsync(
        BlockNode file, Qcow2Geometry g, Layout layout, CancellationToken cancellationToken)
    {
        var table = new byte[layout.Blocks * 8];
        for (int i = 0; i < layout.Blocks; i++)
        {
            long block = 1L + layout.TableClusters + i;
            BinaryPrimitives.WriteInt64BigEndian(table.AsSpan(i * 8), block << g.ClusterBits);
        }

        await file.WriteAsync(g.ClusterSize, table, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        using BufferLease bytes = BufferPool.Shared.Rent(g.ClusterSize);
        long perBlock = 1L << g.RefcountBlockBits;
        for (int i = 0; i < layout.Blocks; i++)
        {
            bytes.Span.Clear();
            long used = Math.Min(perBlock, layout.Clusters - i * perBlock);
            for (int k = 0; k < used; k++)
            {
                Qcow2RefcountBits.Set(bytes.Span, g.RefcountOrder, k, 1);
            }

            await file.WriteAsync(
                (long)(1 + layout.TableClusters + i) << g.ClusterBits, bytes.Memory, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
        }
    }

    private static byte[] MakeHeader(
        Qcow2CreateOptions o, int version, Qcow2Geometry g, Layout layout, Qcow2NewEncryption? encryption)
    {
        var extensions = new MemoryStream();
        if (o.BackingFormat is not null)
        {
            AddExtension(extensions, Qcow2Layout.ExtensionBackingFormat, Encoding.UTF8.GetBytes(o.BackingFormat));
        }

        if (o.DataFile is not null)
        {
            AddExtension(extensions, Qcow2Layout.ExtensionDataFile, Encoding.UTF8.GetBytes(o.DataFile));
        }

        if (encryption?.Luks is not null)
        {
            var place = new Qcow2EncryptionExtension
            {
                Offset = (ulong)layout.EncryptionStart << g.ClusterBits,
                Length = (ulong)encryption.Length,
            };
            AddExtension(
                extensions, Qcow2Layout.ExtensionEncryption,
                MemoryMarshal.AsBytes(new ReadOnlySpan<Qcow2EncryptionExtension>(in place)));
        }

        byte[] backing = Encoding.UTF8.GetBytes(o.BackingFile ?? "");
        int headerLength = version == 2 ? Qcow2Layout.HeaderLengthV2 : Qcow2Layout.HeaderLengthWithCompression;
        byte[] names = FeatureNames();
        int fixedLength = headerLength + (int)extensions.Length + 8 + backing.Length;
        if (version == 3 && fixedLength + 8 + names.Length <= g.ClusterSize)
        {
            AddExtension(extensions, Qcow2Layout.ExtensionFeatureNames, names);
        }

        AddExtension(extensions, Qcow2Layout.ExtensionEnd, []);
        int backingOffset = headerLength + (int)extensions.Length;
        Require(backingOffset + backing.Length <= g.ClusterSize, "the names do not fit in the first cluster");
        var header = new byte[backingOffset + backing.Length];
        WriteFixed(
            header, o, version, g, layout, encryption?.Method ?? 0, backing.Length == 0 ? 0 : backingOffset,
            backing.Length);
        extensions.ToArray().CopyTo(header.AsSpan(headerLength));
        backing.CopyTo(header.AsSpan(backingOffset));
        return header;
    }

    private static void WriteFixed(
        Span<byte> header, Qcow2CreateOptions o, int version, Qcow2Geometry g, Layout layout, uint cryptMethod,
        int backingOffset, int backingLength)
    {
        var v2 = new Qcow2HeaderV2
        {
            Magic = Qcow2Layout.Magic,
            Version = (uint)version,
            BackingFileOffset = (ulong)backingOffset,
            BackingFileSize = (uint)backingLength,
            ClusterBits = (uint)g.ClusterBits,
            Size = (ulong)o.Size,
            CryptMethod = cryptMethod,
            L1Size = (uint)layout.L1Entries,
            L1TableOffset = (ulong)(1 + layout.TableClusters + layout.Blocks) << g.ClusterBits,
            RefcountTableOffset = (ulong)g.ClusterSize,
            RefcountTableClusters = (uint)layout.TableClusters,
        };
        MemoryMarshal.Write(header, in v2);
        if (version == 2)
        {
            return;
        }

        Qcow2Incompatible incompatible = (o.DataFile is null ? 0 : Qcow2Incompatible.DataFile)
            | (o.CompressionType == "zstd" ? Qcow2Incompatible.CompressionType : 0)
            | (o.ExtendedL2 ? Qcow2Incompatible.ExtendedL2 : 0);
        var v3 = new Qcow2HeaderV3
        {
            IncompatibleFeatures = (ulong)incompatible,
            CompatibleFeatures = (ulong)(o.LazyRefcounts ? Qcow2Compatible.LazyRefcounts : 0),
            AutoclearFeatures = (ulong)(o.DataFileRaw ? Qcow2Autoclear.RawDataFile : 0),
            RefcountOrder = (uint)g.RefcountOrder,
            HeaderLength = Qcow2Layout.HeaderLengthWithCompression,
        };
        MemoryMarshal.Write(header[Qcow2Layout.HeaderLengthV2..], in v3);
        header[Qcow2Layout.MinHeaderLengthV3] = (byte)(o.CompressionType == "zstd" ? 1 : 0);
    }

    private static void AddExtension(MemoryStream stream, uint type, ReadOnlySpan<byte> data)
    {
        Span<byte> head = stackalloc byte[8];
        BinaryPrimitives.WriteUInt32BigEndian(head, type);
        BinaryPrimitives.WriteInt32BigEndian(head[4..], data.Length);
        stream.Write(head);
        stream.Write(data);
        stream.Write(stackalloc byte[-data.Length & 7]);
    }

    private static byte[] FeatureNames()
    {
        var bytes = new byte[Qcow2FeatureNames.Known.Length * Qcow2Layout.FeatureNameEntry];
        for (int i = 0; i < Qcow2FeatureNames.Known.Length; i++)
        {
            Qcow2FeatureName name = Qcow2FeatureNames.Known[i];
            Span<byte> entry = bytes.AsSpan(i * Qcow2Layout.FeatureNameEntry, Qcow2Layout.FeatureNameEntry);
            entry[0] = name.Type;
            entry[1] = name.Bit;
            Encoding.ASCII.GetBytes(name.Name, entry[2..]);
        }

        return bytes;
    }

    /// <summary>A raw data file is mapped from the start, so that writing it never needs the tables again.</summary>
    private static async ValueTask MapDataFileAsync(
        BlockNode file, BlockNode dataFile, CancellationToken cancellationToken)
    {
        Qcow2Header header = await Qcow2Header.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        var options = new Qcow2Options();
        var image = new Qcow2Image(file, dataFile, null, header, DeflateDecoder.Instance, options);
        Qcow2Device device = await Qcow2Device.OpenAsync(
            image, new OpenFlags { Writable = true }, options, name => name, cancellationToken).ConfigureAwait(false);
        try
        {
            await device.MapDataFileAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            await device.CloseAsync().ConfigureAwait(false);
        }
    }

    private static void Require(bool condition, string rule)
    {
        if (!condition)
        {
            throw Wrong(rule);
        }
    }

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);

    /// <summary>Clusters: header, refcount table, refcount blocks, L1 table, encryption header.</summary>
    private readonly record struct Layout(
        int TableClusters, int Blocks, int L1Entries, long Clusters, long EncryptionStart);
}
