using System.Buffers.Binary;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Plan;

namespace ImageMount.VirtualFat.Synthesis;

/// <summary>
/// The bytes of a FAT, computed from the plan: chains are contiguous, so an entry is the next number, or the end. Nothing
/// is kept.
/// </summary>
/// <param name="plan">The plan.</param>
internal sealed class FatTable(FatPlan plan)
{
    private readonly FatType _type = plan.Geometry.Type;

    /// <summary>Bytes up to the entry of the last cluster in use; zeroes follow.</summary>
    public long UsedBytes { get; } = FatLayout.FatBytes(plan.Geometry.Type, plan.UsedClusters);

    /// <summary>Fills a buffer with the bytes at an offset in the FAT.</summary>
    public void Read(long offset, Span<byte> buffer)
    {
        switch (_type)
        {
            case FatType.Fat12:
                Read12(offset, buffer);
                break;
            case FatType.Fat16:
                ReadWhole(offset, buffer, sizeof(ushort));
                break;
            default:
                ReadWhole(offset, buffer, sizeof(uint));
                break;
        }
    }

    private void Read12(long offset, Span<byte> buffer)
    {
        // Two entries of 12 bits in three bytes ("FAT12 entries"); such a FAT has 6 KiB at most.
        for (int i = 0; i < buffer.Length; i++)
        {
            (long pair, long place) = Math.DivRem(offset + i, 3);
            uint even = ValueOf(pair * 2);
            uint odd = place == 0 ? 0 : ValueOf(pair * 2 + 1);
            buffer[i] = (byte)((even | odd << 12) >> (int)place * 8);
        }
    }

    private void ReadWhole(long offset, Span<byte> buffer, int size)
    {
        Span<byte> entry = stackalloc byte[sizeof(uint)];
        int done = 0;
        int chain = -1;
        while (done < buffer.Length)
        {
            (long cluster, long within) = Math.DivRem(offset + done, size);
            uint value = Next(cluster, ref chain);
            Span<byte> rest = buffer[done..];
            if (within == 0 && rest.Length >= size)
            {
                Put(rest, value, size);
                done += size;
                continue;
            }

            Put(entry, value, size);
            int count = (int)Math.Min(size - within, rest.Length);
            entry.Slice((int)within, count).CopyTo(rest);
            done += count;
        }
    }

    /// <summary>The value of an entry, without looking for the chain anew as long as entries follow one another.</summary>
    private uint Next(long cluster, ref int chain)
    {
        if (cluster < FatLayout.FirstCluster || cluster >= plan.FirstFreeCluster)
        {
            return ValueOf(cluster);
        }

        if (chain < 0 || cluster < plan.StartOf(chain))
        {
            plan.TryFindChain((uint)cluster, out chain);
        }

        while (cluster >= plan.EndOf(chain))
        {
            chain++;
        }

        return cluster + 1 < plan.EndOf(chain) ? (uint)cluster + 1 : FatLayout.EndOfChain(_type);
    }

    private uint ValueOf(long cluster) => cluster >= plan.FirstFreeCluster ? 0 : plan.FatValueOf((uint)cluster);

    private static void Put(Span<byte> target, uint value, int size)
    {
        if (size == sizeof(ushort))
        {
            BinaryPrimitives.WriteUInt16LittleEndian(target, (ushort)value);
        }
        else
        {
            BinaryPrimitives.WriteUInt32LittleEndian(target, value);
        }
    }
}
