using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qcow;

/// <summary>The validated, immutable facts of a header.</summary>
internal sealed class QcowHeader
{
    private QcowHeader(in QcowRawHeader raw, string? backingFile)
    {
        Geometry = new ClusterGeometry(raw.ClusterBits, raw.L2Bits);
        Size = (long)raw.Size.Value;
        CryptMethod = raw.CryptMethod;
        L1Offset = (long)raw.L1TableOffset.Value;
        BackingFile = backingFile;
        BackingNameOffset = backingFile is null ? 0 : (long)raw.BackingFileOffset.Value;
        BackingNameSize = backingFile is null ? 0 : (int)raw.BackingFileSize.Value;
    }

    /// <summary>Sizes.</summary>
    public ClusterGeometry Geometry { get; }

    /// <summary>Size of the disk, bytes.</summary>
    public long Size { get; }

    /// <summary>0 none, 1 AES.</summary>
    public uint CryptMethod { get; }

    /// <summary>Where the L1 table is.</summary>
    public long L1Offset { get; }

    /// <summary>Entries of it.</summary>
    public int L1Entries => (int)Geometry.L1EntriesFor(Size);

    /// <summary>Parent as written in the image, or null. Its format is not recorded.</summary>
    public string? BackingFile { get; }

    /// <summary>Where that name is.</summary>
    public long BackingNameOffset { get; }

    /// <summary>Bytes of it.</summary>
    public int BackingNameSize { get; }

    /// <summary>Reads and checks the header.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded, with the place in the file.</exception>
    public static async ValueTask<QcowHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        if (file.Length < QcowLayout.HeaderSize)
        {
            throw BlockException.Invalid(
                "the file is too short for a header", 0, $"{file.Length} bytes", $"{QcowLayout.HeaderSize} bytes");
        }

        using BufferLease head = BufferPool.Shared.Rent(QcowLayout.HeaderSize);
        await file.ReadAsync(0, head.Memory, cancellationToken).ConfigureAwait(false);
        QcowRawHeader raw = MemoryMarshal.Read<QcowRawHeader>(head.Span);
        Check(raw, file.Length);
        string? backing = raw.BackingFileOffset == 0
            ? null : await ReadNameAsync(file, raw, cancellationToken).ConfigureAwait(false);
        return new QcowHeader(raw, backing);
    }

    private static void Check(in QcowRawHeader raw, long fileLength)
    {
        Require(raw.Magic == QcowLayout.Magic, "there is no magic of qcow", 0, $"0x{raw.Magic.Value:x8}", "QFI\\xfb");
        if (raw.Version != QcowLayout.Version)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "this is not version 1 of the format")
            {
                Offset = 4,
                Found = $"{raw.Version.Value}",
                Hint = "Versions 2 and 3 are driver 'qcow2'.",
            };
        }

        Require(
            raw.ClusterBits is >= QcowLayout.MinClusterBits and <= QcowLayout.MaxClusterBits,
            "cluster_bits is wrong", 32, $"{raw.ClusterBits}", "9…16");
        Require(
            raw.L2Bits is >= QcowLayout.MinL2Bits and <= QcowLayout.MaxL2Bits, "l2_bits is wrong", 33,
            $"{raw.L2Bits}", "6…13");
        if (raw.CryptMethod.Value is not (QcowLayout.CryptNone or QcowLayout.CryptAes))
        {
            throw new BlockException(BlockErrorKind.NotSupported, "the encryption is not known")
            {
                Offset = 36,
                Found = $"{raw.CryptMethod.Value}",
                Expected = "0 or 1",
            };
        }

        if (raw.CryptMethod != QcowLayout.CryptNone && raw.Size % 512 != 0)
        {
            throw BlockException.Unsupported("the size of an encrypted disk is not a multiple of 512 bytes");
        }

        Require(raw.Size <= long.MaxValue, "the size of the disk is wrong", 24, $"0x{raw.Size.Value:x}", "less than 2^63");
        long entries = new ClusterGeometry(raw.ClusterBits, raw.L2Bits).L1EntriesFor((long)raw.Size.Value);
        if (entries > QcowLayout.MaxL1Entries)
        {
            throw BlockException.Limit(
                "the disk is too large for its clusters (L1 entries)", entries, QcowLayout.MaxL1Entries, 24);
        }

        // Nothing else is known of its place; QEMU puts it behind the header, on a multiple of 8.
        ulong offset = raw.L1TableOffset;
        Require(
            entries == 0 || (offset >= QcowLayout.HeaderSize && offset % sizeof(ulong) == 0
                && offset <= (ulong)fileLength && (ulong)entries * sizeof(ulong) <= (ulong)fileLength - offset),
            "the L1 table is not in the file", 40, $"0x{offset:x}+0x{entries * sizeof(ulong):x}",
            $"0x{QcowLayout.HeaderSize:x}…0x{fileLength:x}");
    }

    private static async ValueTask<string?> ReadNameAsync(
        BlockNode file, QcowRawHeader raw, CancellationToken cancellationToken)
    {
        uint size = raw.BackingFileSize;
        if (size > QcowLayout.MaxBackingName)
        {
            throw BlockException.Limit("the name of the backing file is too long", size, QcowLayout.MaxBackingName, 16);
        }

        if (size == 0)
        {
            return null;
        }

        ulong offset = raw.BackingFileOffset;
        Require(
            offset >= QcowLayout.HeaderSize && offset <= (ulong)file.Length && size <= (ulong)file.Length - offset,
            "the name of the backing file is not in the file", 8, $"0x{offset:x}+{size}",
            $"0x{QcowLayout.HeaderSize:x}…0x{file.Length:x}");
        using BufferLease name = BufferPool.Shared.Rent((int)size);
        await file.ReadAsync((long)offset, name.Memory, cancellationToken).ConfigureAwait(false);
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
