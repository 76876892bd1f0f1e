using System.Buffers.Binary;

namespace ImageMount.Interop.Tests.Peers;

/// <summary>
/// Reads a chain of VHDs as Microsoft's specification has it, sector by sector, and shares no code with the driver. No
/// program at hand gets every bitmap right: qemu knows no parents, libvhdi mistakes bytes whose bits are mixed.
/// </summary>
public static class VhdReader
{
    private const int Sector = 512;
    private const uint Free = 0xffff_ffff;

    /// <summary>The disk that the last file of a chain is; the first one has no parent.</summary>
    public static byte[] Read(IReadOnlyList<byte[]> chain)
    {
        byte[] disk = [];
        foreach (byte[] file in chain)
        {
            ReadOnlySpan<byte> footer = file.AsSpan(file.Length - Sector);
            Assert.True(footer.StartsWith("conectix"u8), "no footer");
            Array.Resize(ref disk, (int)BinaryPrimitives.ReadInt64BigEndian(footer[48..]));
            uint type = BinaryPrimitives.ReadUInt32BigEndian(footer[60..]);
            if (type == 2)
            {
                file.AsSpan(0, disk.Length).CopyTo(disk);
                continue;
            }

            ReadOnlySpan<byte> header = file.AsSpan((int)BinaryPrimitives.ReadInt64BigEndian(footer[16..]));
            Assert.True(header.StartsWith("cxsparse"u8), "no header");
            int table = (int)BinaryPrimitives.ReadInt64BigEndian(header[16..]);
            int perBlock = BinaryPrimitives.ReadInt32BigEndian(header[32..]) / Sector;
            int bitmapSectors = ((perBlock / 8) + Sector - 1) / Sector;
            for (int sector = 0; sector < disk.Length / Sector; sector++)
            {
                uint place = BinaryPrimitives.ReadUInt32BigEndian(file.AsSpan(table + (sector / perBlock * 4)));
                if (place == Free)
                {
                    continue;
                }

                int index = sector % perBlock;
                int bitmap = (int)(place * Sector) + (index / 8);
                if (type == 3 || (file[bitmap] & (0x80 >> (index % 8))) != 0)
                {
                    long from = (place + bitmapSectors + index) * (long)Sector;
                    file.AsSpan((int)from, Sector).CopyTo(disk.AsSpan(sector * Sector));
                }
            }
        }

        return disk;
    }
}
