using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using AesX86 = System.Runtime.Intrinsics.X86.Aes;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// AES in XTS mode (IEEE 1619) by the processor's instructions: what nearly every encrypted disk uses, so it has a path
/// of its own. Eight blocks of a sector go side by side, their tweaks stay in registers, and each is brought eight
/// places on (times x^8) by one carry-less multiplication; the first tweaks of eight sectors are encrypted together.
/// </summary>
internal sealed class AesXts : ISectorCipher
{
    private const int SectorsAtOnce = 8;
    private const int BlockSize = 16;

    private readonly AesKeys _data;
    private readonly AesTransform _tweak;
    private readonly IvGenerator _vectors;

    public AesXts(ReadOnlySpan<byte> key, IvGenerator vectors, int sectorSize)
    {
        _data = new AesKeys(key[..(key.Length / 2)]);
        _tweak = new AesTransform(key[(key.Length / 2)..]);
        _vectors = vectors;
        SectorSize = sectorSize;
    }

    /// <summary>True where the processor has the instructions.</summary>
    public static bool IsSupported => AesKeys.IsSupported && Pclmulqdq.IsSupported;

    /// <inheritdoc/>
    public int SectorSize { get; }

    /// <inheritdoc/>
    public void Decrypt(ulong sectorIndex, Span<byte> data) => Run(sectorIndex, data, decrypt: true);

    /// <inheritdoc/>
    public void Encrypt(ulong sectorIndex, Span<byte> data) => Run(sectorIndex, data, decrypt: false);

    /// <inheritdoc/>
    public void Dispose()
    {
        _data.Dispose();
        _tweak.Dispose();
        _vectors.Dispose();
    }

    private void Run(ulong sectorIndex, Span<byte> data, bool decrypt)
    {
        Span<Vector128<byte>> tweaks = stackalloc Vector128<byte>[SectorsAtOnce];
        Span<byte> tweakBytes = MemoryMarshal.AsBytes(tweaks);
        ulong step = (uint)SectorSize / 512;
        while (!data.IsEmpty)
        {
            int sectors = Math.Min(SectorsAtOnce, data.Length / SectorSize);
            for (int i = 0; i < sectors; i++)
            {
                _vectors.Fill(sectorIndex + (uint)i * step, tweakBytes.Slice(i * BlockSize, BlockSize));
            }

            _tweak.Encrypt(tweakBytes[..(sectors * BlockSize)]);
            for (int i = 0; i < sectors; i++)
            {
                Span<byte> sector = data.Slice(i * SectorSize, SectorSize);
                if (decrypt)
                {
                    DecryptSector(sector, tweaks[i].AsUInt64());
                }
                else
                {
                    EncryptSector(sector, tweaks[i].AsUInt64());
                }
            }

            sectorIndex += (uint)sectors * step;
            data = data[(sectors * SectorSize)..];
        }
    }

    /// <summary>Times x, in the order of bytes that XTS has (IEEE 1619, 5.2).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ulong> Next(Vector128<ulong> tweak)
    {
        // The sign of each half, spread over 32-bit lanes: the low half's carries into the high one, the high half's
        // into the polynomial.
        Vector128<int> signs = Sse2.ShiftRightArithmetic(Sse2.Shuffle(tweak.AsInt32(), 0x13), 31);
        return Sse2.Add(tweak, tweak) ^ (signs & Vector128.Create(0x87, 0, 1, 0)).AsUInt64();
    }

    /// <summary>Times x^8: up by a byte, and the byte that falls off, times the polynomial, comes in below.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ulong> Eight(Vector128<ulong> tweak, Vector128<ulong> polynomial) =>
        Sse2.ShiftLeftLogical128BitLane(tweak, 1)
            ^ Pclmulqdq.CarrylessMultiply(Sse2.ShiftRightLogical128BitLane(tweak, 15), polynomial, 0);

    private void DecryptSector(Span<byte> sector, Vector128<ulong> t0)
    {
        ref Vector128<byte> keys = ref _data.Decrypt;
        int rounds = _data.Rounds;
        Vector128<ulong> polynomial = Vector128.Create(0x87UL, 0);
        Vector128<ulong> t1 = Next(t0), t2 = Next(t1), t3 = Next(t2);
        Vector128<ulong> t4 = Next(t3), t5 = Next(t4), t6 = Next(t5), t7 = Next(t6);
        ref Vector128<byte> at = ref Unsafe.As<byte, Vector128<byte>>(ref MemoryMarshal.GetReference(sector));
        for (int group = sector.Length / (8 * BlockSize); ; group--)
        {
            Vector128<byte> k = keys;
            Vector128<byte> b0 = at ^ t0.AsByte() ^ k;
            Vector128<byte> b1 = Unsafe.Add(ref at, 1) ^ t1.AsByte() ^ k;
            Vector128<byte> b2 = Unsafe.Add(ref at, 2) ^ t2.AsByte() ^ k;
            Vector128<byte> b3 = Unsafe.Add(ref at, 3) ^ t3.AsByte() ^ k;
            Vector128<byte> b4 = Unsafe.Add(ref at, 4) ^ t4.AsByte() ^ k;
            Vector128<byte> b5 = Unsafe.Add(ref at, 5) ^ t5.AsByte() ^ k;
            Vector128<byte> b6 = Unsafe.Add(ref at, 6) ^ t6.AsByte() ^ k;
            Vector128<byte> b7 = Unsafe.Add(ref at, 7) ^ t7.AsByte() ^ k;
            for (int r = 1; r < rounds; r++)
            {
                k = Unsafe.Add(ref keys, r);
                b0 = AesX86.Decrypt(b0, k);
                b1 = AesX86.Decrypt(b1, k);
                b2 = AesX86.Decrypt(b2, k);
                b3 = AesX86.Decrypt(b3, k);
                b4 = AesX86.Decrypt(b4, k);
                b5 = AesX86.Decrypt(b5, k);
                b6 = AesX86.Decrypt(b6, k);
                b7 = AesX86.Decrypt(b7, k);
            }

            // The last round adds its key at the end: the tweak can be added to the key beforehand.
            k = Unsafe.Add(ref keys, rounds);
            at = AesX86.DecryptLast(b0, k ^ t0.AsByte());
            Unsafe.Add(ref at, 1) = AesX86.DecryptLast(b1, k ^ t1.AsByte());
            Unsafe.Add(ref at, 2) = AesX86.DecryptLast(b2, k ^ t2.AsByte());
            Unsafe.Add(ref at, 3) = AesX86.DecryptLast(b3, k ^ t3.AsByte());
            Unsafe.Add(ref at, 4) = AesX86.DecryptLast(b4, k ^ t4.AsByte());
            Unsafe.Add(ref at, 5) = AesX86.DecryptLast(b5, k ^ t5.AsByte());
            Unsafe.Add(ref at, 6) = AesX86.DecryptLast(b6, k ^ t6.AsByte());
            Unsafe.Add(ref at, 7) = AesX86.DecryptLast(b7, k ^ t7.AsByte());
            if (group == 1)
            {
                return;
            }

            at = ref Unsafe.Add(ref at, 8);
            t0 = Eight(t0, polynomial);
            t1 = Eight(t1, polynomial);
            t2 = Eight(t2, polynomial);
            t3 = Eight(t3, polynomial);
            t4 = Eight(t4, polynomial);
            t5 = Eight(t5, polynomial);
            t6 = Eight(t6, polynomial);
            t7 = Eight(t7, polynomial);
        }
    }

    private void EncryptSector(Span<byte> sector, Vector128<ulong> t0)
    {
        ref Vector128<byte> keys = ref _data.Encrypt;
        int rounds = _data.Rounds;
        Vector128<ulong> polynomial = Vector128.Create(0x87UL, 0);
        Vector128<ulong> t1 = Next(t0), t2 = Next(t1), t3 = Next(t2);
        Vector128<ulong> t4 = Next(t3), t5 = Next(t4), t6 = Next(t5), t7 = Next(t6);
        ref Vector128<byte> at = ref Unsafe.As<byte, Vector128<byte>>(ref MemoryMarshal.GetReference(sector));
        for (int group = sector.Length / (8 * BlockSize); ; group--)
        {
            Vector128<byte> k = keys;
            Vector128<byte> b0 = at ^ t0.AsByte() ^ k;
            Vector128<byte> b1 = Unsafe.Add(ref at, 1) ^ t1.AsByte() ^ k;
            Vector128<byte> b2 = Unsafe.Add(ref at, 2) ^ t2.AsByte() ^ k;
            Vector128<byte> b3 = Unsafe.Add(ref at, 3) ^ t3.AsByte() ^ k;
            Vector128<byte> b4 = Unsafe.Add(ref at, 4) ^ t4.AsByte() ^ k;
            Vector128<byte> b5 = Unsafe.Add(ref at, 5) ^ t5.AsByte() ^ k;
            Vector128<byte> b6 = Unsafe.Add(ref at, 6) ^ t6.AsByte() ^ k;
            Vector128<byte> b7 = Unsafe.Add(ref at, 7) ^ t7.AsByte() ^ k;
            for (int r = 1; r < rounds; r++)
            {
                k = Unsafe.Add(ref keys, r);
                b0 = AesX86.Encrypt(b0, k);
                b1 = AesX86.Encrypt(b1, k);
                b2 = AesX86.Encrypt(b2, k);
                b3 = AesX86.Encrypt(b3, k);
                b4 = AesX86.Encrypt(b4, k);
                b5 = AesX86.Encrypt(b5, k);
                b6 = AesX86.Encrypt(b6, k);
                b7 = AesX86.Encrypt(b7, k);
            }

            k = Unsafe.Add(ref keys, rounds);
            at = AesX86.EncryptLast(b0, k ^ t0.AsByte());
            Unsafe.Add(ref at, 1) = AesX86.EncryptLast(b1, k ^ t1.AsByte());
            Unsafe.Add(ref at, 2) = AesX86.EncryptLast(b2, k ^ t2.AsByte());
            Unsafe.Add(ref at, 3) = AesX86.EncryptLast(b3, k ^ t3.AsByte());
            Unsafe.Add(ref at, 4) = AesX86.EncryptLast(b4, k ^ t4.AsByte());
            Unsafe.Add(ref at, 5) = AesX86.EncryptLast(b5, k ^ t5.AsByte());
            Unsafe.Add(ref at, 6) = AesX86.EncryptLast(b6, k ^ t6.AsByte());
            Unsafe.Add(ref at, 7) = AesX86.EncryptLast(b7, k ^ t7.AsByte());
            if (group == 1)
            {
                return;
            }

            at = ref Unsafe.Add(ref at, 8);
            t0 = Eight(t0, polynomial);
            t1 = Eight(t1, polynomial);
            t2 = Eight(t2, polynomial);
            t3 = Eight(t3, polynomial);
            t4 = Eight(t4, polynomial);
            t5 = Eight(t5, polynomial);
            t6 = Eight(t6, polynomial);
            t7 = Eight(t7, polynomial);
        }
    }
}
