using System.Numerics;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// The mark of a unit. Four CRC-32C over a quarter each, computed side by side because one alone waits three cycles for
/// every instruction, then a CRC-32C over the four and the rest: about what memory can deliver.
/// </summary>
internal static class UnitChecksum
{
    private const int Lanes = 4;

    /// <summary>Never 0, which means that there is nothing.</summary>
    public static uint Of(ReadOnlySpan<byte> unit)
    {
        int lane = unit.Length / Lanes & -sizeof(ulong);
        ReadOnlySpan<ulong> a = MemoryMarshal.Cast<byte, ulong>(unit[..lane]);
        ReadOnlySpan<ulong> b = MemoryMarshal.Cast<byte, ulong>(unit.Slice(lane, lane))[..a.Length];
        ReadOnlySpan<ulong> c = MemoryMarshal.Cast<byte, ulong>(unit.Slice(2 * lane, lane))[..a.Length];
        ReadOnlySpan<ulong> d = MemoryMarshal.Cast<byte, ulong>(unit.Slice(3 * lane, lane))[..a.Length];
        uint first = Crc32C.Start;
        uint second = Crc32C.Start;
        uint third = Crc32C.Start;
        uint fourth = Crc32C.Start;
        for (int i = 0; i < a.Length; i++)
        {
            first = BitOperations.Crc32C(first, a[i]);
            second = BitOperations.Crc32C(second, b[i]);
            third = BitOperations.Crc32C(third, c[i]);
            fourth = BitOperations.Crc32C(fourth, d[i]);
        }

        uint all = BitOperations.Crc32C(Crc32C.Start, ((ulong)second << 32) | first);
        all = BitOperations.Crc32C(all, ((ulong)fourth << 32) | third);
        all = ~Crc32C.Update(all, unit[(Lanes * lane)..]);
        return all == 0 ? 1 : all;
    }
}
