using System.Globalization;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Checks of sizes and places that the header names. Offsets in messages are those of the header's fields.
/// </summary>
internal static class Qcow2HeaderChecks
{
    /// <summary>Checks everything in the common part of the header against the geometry and the file.</summary>
    public static void Check(in Qcow2HeaderV2 v2, Qcow2Geometry geometry, long fileLength)
    {
        if (v2.CryptMethod > 2)
        {
            throw BlockException.Invalid("the encryption method is not known", 32, Text(v2.CryptMethod), "0…2");
        }

        CheckL1(v2, geometry, fileLength);
        CheckRefcountTable(v2, geometry, fileLength);
        if (v2.SnapshotCount > Qcow2Layout.MaxSnapshots)
        {
            throw BlockException.Limit("too many snapshots", v2.SnapshotCount.Value, Qcow2Layout.MaxSnapshots, 60);
        }

        if (v2.SnapshotCount != 0)
        {
            CheckPlace(
                "the snapshot table", v2.SnapshotsOffset, v2.SnapshotCount * (long)Qcow2Layout.SnapshotEntry, geometry,
                fileLength, 64);
        }
    }

    /// <summary>Checks that a structure is aligned, representable, and inside the file.</summary>
    /// <param name="what">Subject of the message.</param>
    /// <param name="offset">Where it begins.</param>
    /// <param name="count">Its bytes.</param>
    /// <param name="geometry">Sizes.</param>
    /// <param name="fileLength">Length of the file.</param>
    /// <param name="reference">Where the offset was read.</param>
    public static void CheckPlace(
        string what, ulong offset, long count, Qcow2Geometry geometry, long fileLength, long? reference)
    {
        if ((offset & (ulong)(geometry.ClusterSize - 1)) != 0 || offset >= Qcow2Layout.MaxHostOffset)
        {
            throw BlockException.Invalid(
                what + " does not begin at a cluster", reference, $"0x{offset:x}",
                $"a multiple of 0x{geometry.ClusterSize:x} below 2^56");
        }

        if ((long)offset > fileLength || count > fileLength - (long)offset)
        {
            throw BlockException.Invalid(
                what + " lies outside the file", reference, $"0x{offset:x}+0x{count:x}", $"0…0x{fileLength:x}");
        }

        if (offset == 0 && count > 0)
        {
            throw BlockException.Invalid(what + " lies in the header", reference, "0x0", "another cluster");
        }
    }

    /// <summary>Checks what belongs to an encrypted payload.</summary>
    public static void CheckEncryption(Qcow2Header header, long fileLength)
    {
        bool isLuks = header.CryptMethod == Qcow2Layout.CryptLuks;
        if (isLuks != header.Encryption is not null)
        {
            throw BlockException.Invalid(
                "encryption method and encryption extension contradict each other", Qcow2Layout.CryptMethodField,
                Text(header.CryptMethod), isLuks ? "an extension too" : "2 (LUKS)");
        }

        if (header.CryptMethod != 0 && header.Size % 512 != 0)
        {
            throw BlockException.Unsupported("the size of an encrypted disk is not a multiple of 512 bytes");
        }

        if (header.Encryption is not { } place)
        {
            return;
        }

        if (place.Length > (ulong)Qcow2Layout.MaxEncryptionHeaderBytes)
        {
            throw BlockException.Limit(
                "the encryption header is too large (bytes)", (long)Math.Min(place.Length, long.MaxValue),
                Qcow2Layout.MaxEncryptionHeaderBytes);
        }

        CheckPlace(
            "the encryption header", place.Offset, (long)place.Length.Value, header.Geometry, fileLength, null);
    }

    private static void CheckL1(in Qcow2HeaderV2 v2, Qcow2Geometry geometry, long fileLength)
    {
        const int MaxEntries = Qcow2Layout.MaxL1Bytes / 8;
        if (v2.Size > long.MaxValue)
        {
            throw BlockException.Invalid("the virtual size is out of range", 24, $"0x{v2.Size.Value:x}", "below 2^63");
        }

        long needed = geometry.L1EntriesFor((long)v2.Size.Value);
        if (needed > MaxEntries)
        {
            throw BlockException.Limit(
                "the disk is too large for its cluster size (L1 entries)", needed, MaxEntries, 24);
        }

        if (v2.L1Size > MaxEntries)
        {
            throw BlockException.Limit("the L1 table is too large (entries)", v2.L1Size.Value, MaxEntries, 36);
        }

        if (v2.L1Size < needed)
        {
            throw BlockException.Invalid(
                "the L1 table is too small for the disk", 36, Text(v2.L1Size),
                "at least " + needed.ToString(CultureInfo.InvariantCulture));
        }

        if (v2.L1Size != 0)
        {
            CheckPlace("the L1 table", v2.L1TableOffset, v2.L1Size * 8L, geometry, fileLength, 40);
        }
    }

    private static void CheckRefcountTable(in Qcow2HeaderV2 v2, Qcow2Geometry geometry, long fileLength)
    {
        long bytes = (long)v2.RefcountTableClusters.Value << geometry.ClusterBits;
        if (bytes > Qcow2Layout.MaxRefcountTableBytes)
        {
            throw BlockException.Limit(
                "the refcount table is too large (bytes)", bytes, Qcow2Layout.MaxRefcountTableBytes, 56);
        }

        if (bytes == 0)
        {
            throw BlockException.Invalid("the image has no refcount table", 56, "0", "at least 1 cluster");
        }

        CheckPlace("the refcount table", v2.RefcountTableOffset, bytes, geometry, fileLength, 48);
    }

    private static string Text(uint value) => value.ToString(CultureInfo.InvariantCulture);
}
