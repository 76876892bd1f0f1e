using System.Globalization;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// The validated, immutable facts of a header and its extensions ("Header", "Header extensions"). Every size and offset
/// here is aligned, does not overflow, respects the limits of <see cref="Qcow2Layout"/>, and structures lie inside the
/// file.
/// </summary>
public sealed class Qcow2Header
{
    /// <summary>2 or 3.</summary>
    public required int Version { get; init; }

    /// <summary>Virtual size, bytes.</summary>
    public required long Size { get; init; }

    /// <summary>Sizes and shifts.</summary>
    public required Qcow2Geometry Geometry { get; init; }

    /// <summary>0 none, 1 AES, 2 LUKS.</summary>
    public required uint CryptMethod { get; init; }

    /// <summary>Entries of the active L1 table.</summary>
    public required int L1Entries { get; init; }

    /// <summary>Where it is; 0 only when there are no entries.</summary>
    public required long L1Offset { get; init; }

    /// <summary>Where the refcount table is.</summary>
    public required long RefcountTableOffset { get; init; }

    /// <summary>Its clusters.</summary>
    public required int RefcountTableClusters { get; init; }

    /// <summary>Number of internal snapshots.</summary>
    public required int SnapshotCount { get; init; }

    /// <summary>Where the snapshot table is.</summary>
    public required long SnapshotsOffset { get; init; }

    /// <summary>Incompatible features.</summary>
    public required Qcow2Incompatible Incompatible { get; init; }

    /// <summary>Compatible features.</summary>
    public required Qcow2Compatible Compatible { get; init; }

    /// <summary>Auto-clear features.</summary>
    public required Qcow2Autoclear Autoclear { get; init; }

    /// <summary>Bytes of the header itself.</summary>
    public required int HeaderLength { get; init; }

    /// <summary>0 zlib, 1 zstd.</summary>
    public required byte CompressionType { get; init; }

    /// <summary>Parent as written in the image, or null.</summary>
    public string? BackingFile { get; private init; }

    /// <summary>Format of the parent, or null.</summary>
    public string? BackingFormat { get; private set; }

    /// <summary>Name of the external data file, or null.</summary>
    public string? DataFile { get; private set; }

    /// <summary>Names of features.</summary>
    public IReadOnlyList<Qcow2FeatureName> FeatureNames { get; private set; } = [];

    /// <summary>
    /// The bitmaps extension, or null. Its data counts only with <see cref="Qcow2Autoclear.Bitmaps"/>.
    /// </summary>
    public Qcow2BitmapsExtension? Bitmaps { get; private set; }

    /// <summary>Where the LUKS header is; not null exactly when the payload is encrypted that way.</summary>
    public Qcow2EncryptionExtension? Encryption { get; private set; }

    /// <summary>True when guest data lies in another file.</summary>
    public bool HasDataFile => (Incompatible & Qcow2Incompatible.DataFile) != 0;

    /// <summary>True when that file is a raw image by itself.</summary>
    public bool IsDataFileRaw => HasDataFile && (Autoclear & Qcow2Autoclear.RawDataFile) != 0;

    /// <summary>True when the bitmaps may be trusted.</summary>
    public bool HasConsistentBitmaps => Bitmaps is not null && (Autoclear & Qcow2Autoclear.Bitmaps) != 0;

    /// <summary>"zlib" or "zstd".</summary>
    public string CompressionName => CompressionType == 1 ? "zstd" : "zlib";

    /// <summary>
    /// Whether a file begins as a qcow2 does. Versions that are not known count too: they are refused by name at open,
    /// where a probe that said no would show the file as a raw disk. Version 1 is another format, qcow.
    /// </summary>
    public static bool HasMagic(ReadOnlySpan<byte> head)
    {
        var reader = new SpanReader(head);
        return reader.TryRead(out Be32 magic) && magic == Qcow2Layout.Magic
            && reader.TryRead(out Be32 version) && version.Value != 1;
    }

    /// <summary>Reads and checks the header.</summary>
    /// <param name="file">The image.</param>
    /// <param name="cancellationToken">Stops reading.</param>
    /// <exception cref="BlockException">
    /// InvalidData, NotSupported or LimitExceeded, with the place in the file.
    /// </exception>
    public static async ValueTask<Qcow2Header> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int first = (int)Math.Min(file.Length, Qcow2Layout.HeaderLengthWithCompression);
        int clusterBits;
        using (BufferLease head = BufferPool.Shared.Rent(Qcow2Layout.HeaderLengthWithCompression))
        {
            await file.ReadAsync(0, head.Memory[..first], cancellationToken).ConfigureAwait(false);
            clusterBits = ReadClusterBits(head.Span[..first]);
        }

        // The header, its extensions and the backing file's name all lie in the first cluster.
        int count = (int)Math.Min(file.Length, 1L << clusterBits);
        using BufferLease cluster = BufferPool.Shared.Rent(count);
        await file.ReadAsync(0, cluster.Memory, cancellationToken).ConfigureAwait(false);
        return Parse(cluster.Span, file.Length);
    }

    /// <summary>Checks a header.</summary>
    /// <param name="cluster">The first cluster, or what the file has of it.</param>
    /// <param name="fileLength">Length of the file, bytes.</param>
    public static Qcow2Header Parse(ReadOnlySpan<byte> cluster, long fileLength)
    {
        int clusterBits = ReadClusterBits(cluster);
        var reader = new SpanReader(cluster);
        reader.TryRead(out Qcow2HeaderV2 v2);
        Qcow2HeaderV3 v3 = new()
        {
            RefcountOrder = Qcow2Layout.DefaultRefcountOrder,
            HeaderLength = Qcow2Layout.HeaderLengthV2,
        };
        byte compression = 0;
        if (v2.Version == 3)
        {
            if (!reader.TryRead(out v3))
            {
                throw Truncated("the header is cut short", cluster.Length, Qcow2Layout.MinHeaderLengthV3);
            }

            CheckHeaderLength(v3.HeaderLength, cluster.Length, 1 << clusterBits);
            if (v3.HeaderLength > Qcow2Layout.MinHeaderLengthV3)
            {
                compression = cluster[Qcow2Layout.MinHeaderLengthV3];
            }
        }

        // Extensions come before the checks of features, because the table of names is one of them.
        var extensions = Qcow2Extensions.Read(cluster, (int)v3.HeaderLength.Value, v2, 1 << clusterBits);
        CheckIncompatible(v3.IncompatibleFeatures, extensions.FeatureNames);
        var incompatible = (Qcow2Incompatible)v3.IncompatibleFeatures.Value;
        CheckCompression(incompatible, compression);
        bool extended = (incompatible & Qcow2Incompatible.ExtendedL2) != 0;
        if (v3.RefcountOrder > Qcow2Layout.MaxRefcountOrder)
        {
            throw BlockException.Invalid("the refcount width is out of range", 96, Text(v3.RefcountOrder), "0…6");
        }

        if (extended && clusterBits < Qcow2Layout.MinClusterBitsExtended)
        {
            throw BlockException.Invalid(
                "clusters are too small for extended L2 entries", 20, Text((uint)clusterBits), "14…21");
        }

        var geometry = new Qcow2Geometry(clusterBits, (int)v3.RefcountOrder.Value, extended);
        Qcow2HeaderChecks.Check(v2, geometry, fileLength);
        var header = new Qcow2Header
        {
            Version = (int)v2.Version.Value,
            Size = (long)v2.Size.Value,
            Geometry = geometry,
            CryptMethod = v2.CryptMethod,
            L1Entries = (int)v2.L1Size.Value,
            L1Offset = (long)v2.L1TableOffset.Value,
            RefcountTableOffset = (long)v2.RefcountTableOffset.Value,
            RefcountTableClusters = (int)v2.RefcountTableClusters.Value,
            SnapshotCount = (int)v2.SnapshotCount.Value,
            SnapshotsOffset = (long)v2.SnapshotsOffset.Value,
            Incompatible = incompatible,
            Compatible = (Qcow2Compatible)v3.CompatibleFeatures.Value,
            Autoclear = (Qcow2Autoclear)v3.AutoclearFeatures.Value,
            HeaderLength = (int)v3.HeaderLength.Value,
            CompressionType = compression,
            BackingFile = ReadBackingFile(cluster, v2, 1 << clusterBits),
            BackingFormat = extensions.BackingFormat,
            DataFile = extensions.DataFile,
            FeatureNames = extensions.FeatureNames,
            Bitmaps = extensions.Bitmaps,
            Encryption = extensions.Encryption,
        };
        CheckCombinations(header);
        Qcow2HeaderChecks.CheckEncryption(header, fileLength);
        return header;
    }

    private static int ReadClusterBits(ReadOnlySpan<byte> head)
    {
        var reader = new SpanReader(head);
        if (!reader.TryRead(out Be32 magic) || magic != Qcow2Layout.Magic)
        {
            throw BlockException.Invalid("not a qcow2 image", 0, Hex(magic), Hex(Qcow2Layout.Magic));
        }

        reader.TrySeek(0);
        if (!reader.TryRead(out Qcow2HeaderV2 v2))
        {
            throw Truncated("the header is cut short", head.Length, Qcow2Layout.HeaderLengthV2);
        }

        if (v2.Version.Value is not (2 or 3))
        {
            throw new BlockException(BlockErrorKind.NotSupported, "this version of qcow2 is not known")
            {
                Offset = 4,
                Found = Text(v2.Version),
                Expected = "2 or 3",
            };
        }

        if (v2.ClusterBits.Value is < Qcow2Layout.MinClusterBits or > Qcow2Layout.MaxClusterBits)
        {
            throw BlockException.Invalid("the cluster size is out of range", 20, Text(v2.ClusterBits), "9…21");
        }

        return (int)v2.ClusterBits.Value;
    }

    private static void CheckHeaderLength(uint headerLength, int available, int clusterSize)
    {
        if (headerLength < Qcow2Layout.MinHeaderLengthV3 || headerLength > clusterSize || headerLength % 8 != 0)
        {
            throw BlockException.Invalid(
                "the header's length is wrong", 100, Text(headerLength), $"a multiple of 8, 104…{clusterSize}");
        }

        if (headerLength > available)
        {
            throw Truncated("the header is cut short", available, (int)headerLength);
        }
    }

    private static void CheckIncompatible(ulong bits, IReadOnlyList<Qcow2FeatureName> names)
    {
        ulong unknown = bits & ~(ulong)Qcow2Incompatible.Known;
        if (unknown != 0)
        {
            throw new BlockException(
                BlockErrorKind.NotSupported,
                "the image needs features that this program does not have: "
                + Qcow2FeatureNames.Describe(Qcow2FeatureNames.Incompatible, unknown, names))
            {
                Offset = Qcow2Layout.IncompatibleField,
            };
        }
    }

    private static void CheckCompression(Qcow2Incompatible incompatible, byte type)
    {
        bool flagged = (incompatible & Qcow2Incompatible.CompressionType) != 0;
        if (flagged != (type != 0))
        {
            throw BlockException.Invalid(
                "compression type and its feature bit contradict each other", Qcow2Layout.MinHeaderLengthV3, Text(type),
                flagged ? "not 0" : "0");
        }

        if (type > 1)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "this compression type is not known")
            {
                Offset = Qcow2Layout.MinHeaderLengthV3,
                Found = Text(type),
                Expected = "0 (zlib) or 1 (zstd)",
            };
        }
    }

    private static string? ReadBackingFile(ReadOnlySpan<byte> cluster, in Qcow2HeaderV2 v2, int clusterSize)
    {
        ulong offset = v2.BackingFileOffset;
        if (offset == 0)
        {
            return null;
        }

        uint size = v2.BackingFileSize;
        if (size > Qcow2Layout.MaxBackingNameLength || offset > (ulong)clusterSize
            || size > (ulong)clusterSize - offset)
        {
            throw BlockException.Invalid(
                "the backing file's name does not lie in the first cluster", 8, $"0x{offset:x}+{size}",
                $"at most {Qcow2Layout.MaxBackingNameLength} bytes, before 0x{clusterSize:x}");
        }

        if ((int)offset + (int)size > cluster.Length)
        {
            throw Truncated("the backing file's name is cut short", cluster.Length, (int)offset + (int)size);
        }

        return size == 0 ? null : Encoding.UTF8.GetString(cluster.Slice((int)offset, (int)size));
    }

    private static void CheckCombinations(Qcow2Header header)
    {
        if (header.IsDataFileRaw && header.BackingFile is not null)
        {
            throw BlockException.Invalid("an image with a raw external data file cannot have a backing file", 8);
        }

        if (header.HasDataFile && header.SnapshotCount > 0)
        {
            throw BlockException.Invalid(
                "an image with an external data file cannot have snapshots", 60, Text((uint)header.SnapshotCount), "0");
        }
    }

    private static BlockException Truncated(string what, int found, int expected) =>
        BlockException.Invalid(what, 0, $"{found} bytes", $"{expected} bytes");

    private static string Hex(uint value) => $"0x{value:x8}";

    private static string Text(uint value) => value.ToString(CultureInfo.InvariantCulture);
}
