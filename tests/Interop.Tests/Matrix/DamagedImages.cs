using System.Buffers.Binary;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>
/// Damages one entry of one structure of a qcow2 image, as bad memory or a bad program would: a bit flipped, an offset
/// moved, a value taken from another entry. Finds the structures by its own reading of the header.
/// </summary>
public sealed class DamagedImages(byte[] image, Random random)
{
    private int ClusterSize => 1 << (int)U32(20);

    private int RefcountOrder => U32(4) >= 3 ? (int)U32(96) : 4;

    private bool Extended => U32(4) >= 3 && (U64(72) & 16) != 0;

    /// <summary>A damaged copy, and what was done.</summary>
    public (byte[] Image, string What) Next()
    {
        byte[] copy = (byte[])image.Clone();
        while (true)
        {
            (string name, long offset, int width) = Pick();
            if (offset < 0 || offset + width > copy.Length)
            {
                continue;
            }

            Span<byte> at = copy.AsSpan((int)offset, width);
            string before = Convert.ToHexString(at);
            Damage(at);
            string after = Convert.ToHexString(at);
            if (before != after)
            {
                return (copy, $"{name} at 0x{offset:x}: {before} -> {after}");
            }
        }
    }

    private (string Name, long Offset, int Width) Pick()
    {
        long l1 = (long)U64(40);
        int l1Entries = (int)U32(36);
        long table = (long)U64(48);
        switch (random.Next(6))
        {
            case 0:
                return ("L1 entry", l1 + 8 * random.Next(l1Entries), 8);
            case 1:
            case 2:
                long l2 = Offset(l1 + 8 * random.Next(l1Entries));
                int entrySize = Extended ? 16 : 8;
                // Mostly the first entries: there the image has its data.
                int entries = ClusterSize / entrySize;
                int index = random.Next(3) == 0 ? random.Next(entries) : random.Next(Math.Min(entries, 40));
                bool bitmap = Extended && random.Next(3) == 0;
                return l2 == 0 ? ("", -1, 8) : (bitmap ? "L2 bitmap" : "L2 entry", l2 + index * entrySize + (bitmap ? 8 : 0), 8);
            case 3:
                int used = Math.Max(1, image.Length / ClusterSize / (ClusterSize * 8 >> RefcountOrder) + 1);
                return ("refcount table entry", table + 8 * random.Next(used), 8);
            case 4:
                int clusters = image.Length / ClusterSize;
                long cluster = random.Next(clusters);
                long blockClusters = ClusterSize * 8L >> RefcountOrder;
                long block = Offset(table + 8 * (cluster / blockClusters));
                long bit = cluster % blockClusters << RefcountOrder;
                return block == 0 ? ("", -1, 1) : ("refcount", block + bit / 8, Math.Max(1, (1 << RefcountOrder) / 8));
            default:
                int snapshots = (int)U32(60);
                return snapshots == 0 ? ("", -1, 8) : ("snapshot's L1 entry", (long)U64((int)U64(64)) + 8 * random.Next(l1Entries), 8);
        }
    }

    private void Damage(Span<byte> at)
    {
        switch (random.Next(6))
        {
            case 0:
                at.Clear();
                break;
            case 1 when at.Length == 8:
                // Another cluster of the same file, flags kept.
                ulong value = BinaryPrimitives.ReadUInt64BigEndian(at);
                ulong other = (ulong)random.Next(image.Length / ClusterSize + 3) * (ulong)ClusterSize;
                BinaryPrimitives.WriteUInt64BigEndian(at, value & 0xff00_0000_0000_01ff | other);
                break;
            case 2:
                at[^1]++;
                break;
            case 3:
                at[^1]--;
                break;
            default:
                at[random.Next(at.Length)] ^= (byte)(1 << random.Next(8));
                break;
        }
    }

    private long Offset(long at) => at + 8 > image.Length ? 0 : (long)(U64((int)at) & 0x00ff_ffff_ffff_fe00);

    private uint U32(int at) => BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(at));

    private ulong U64(int at) => BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan(at));
}
