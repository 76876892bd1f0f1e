using System.Buffers.Binary;
using System.Security.Cryptography;

namespace ImageMount.Formats.Tests.Parallels;

/// <summary>Parallels images put together by hand.</summary>
internal sealed class ParallelsByHand
{
    public const int Sector = 512;

    public required int Size { get; init; }

    public bool IsVersion2 { get; init; }

    /// <summary>63 sectors, a track of old, was usual once; no power of two.</summary>
    public int ClusterSectors { get; init; } = 63;

    /// <summary>Which cluster of the disk stands at each place of the data; null for an empty image.</summary>
    public int[]? Order { get; init; }

    public uint InUse { get; init; }

    /// <summary>Upper half of the sector count, which version 1 does not have.</summary>
    public uint SizeHigh { get; init; }

    /// <summary>Sectors between the table and the data.</summary>
    public int Gap { get; init; } = 3;

    /// <summary>An extension with a dirty bitmap, and this feature if not 0.</summary>
    public bool HasExtension { get; init; }

    public ulong UnknownFeature { get; init; }

    public ulong UnknownFlags { get; init; }

    public int Cluster => ClusterSectors * Sector;

    public byte[] Build(ReadOnlySpan<byte> content = default)
    {
        int entries = (Size + Cluster - 1) / Cluster;
        int[] order = Order ?? [];
        int data = ((64 + (4 * entries) + 511) / 512 * 512) + (Gap * Sector);
        if (IsVersion2)
        {
            data = (data + Cluster - 1) / Cluster * Cluster;
        }

        int extension = data + (order.Length * Cluster);
        var image = new byte[extension + (HasExtension ? 2 * Cluster : 0)];
        (IsVersion2 ? "WithouFreSpacExt"u8 : "WithoutFreeSpace"u8).CopyTo(image);
        W32(image, 16, 2);
        W32(image, 20, 16);
        W32(image, 24, 100);
        W32(image, 28, (uint)ClusterSectors);
        W32(image, 32, (uint)entries);
        W32(image, 36, (uint)((Size + 511) / 512));
        W32(image, 40, SizeHigh);
        W32(image, 44, InUse);
        W32(image, 48, (uint)(data / Sector));
        for (int place = 0; place < order.Length; place++)
        {
            int at = data + (place * Cluster);
            W32(image, 64 + (4 * order[place]), (uint)(at / (IsVersion2 ? Cluster : Sector)));
            int start = order[place] * Cluster;
            if (start < content.Length)
            {
                content[start..Math.Min(content.Length, start + Cluster)].CopyTo(image.AsSpan(at));
            }
        }

        if (HasExtension)
        {
            W32(image, 56, (uint)(extension / Sector));
            WriteExtension(image.AsSpan(extension, Cluster), (extension + Cluster) / Sector);
        }

        return image;
    }

    private void WriteExtension(Span<byte> cluster, long bitmapSector)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(cluster, 0xab23_4cef_23dc_ea87);
        int at = 24;
        if (UnknownFeature != 0)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(cluster[at..], UnknownFeature);
            BinaryPrimitives.WriteUInt64LittleEndian(cluster[(at + 8)..], UnknownFlags);
            at += 24;
        }

        BinaryPrimitives.WriteUInt64LittleEndian(cluster[at..], 0x2038_5fae_252c_b34a);
        BinaryPrimitives.WriteUInt32LittleEndian(cluster[(at + 16)..], 40);
        at += 24;
        BinaryPrimitives.WriteInt64LittleEndian(cluster[at..], Size / 512);
        new Guid("12345678-1234-1234-1234-123456789abc").TryWriteBytes(cluster[(at + 8)..]);
        BinaryPrimitives.WriteUInt32LittleEndian(cluster[(at + 24)..], 128);
        BinaryPrimitives.WriteUInt32LittleEndian(cluster[(at + 28)..], 1);
        BinaryPrimitives.WriteInt64LittleEndian(cluster[(at + 32)..], bitmapSector);
        MD5.HashData(cluster[24..], cluster[8..24]);
    }

    private static void W32(byte[] image, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(at), value);
}
