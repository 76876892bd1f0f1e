using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using AesX86 = System.Runtime.Intrinsics.X86.Aes;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// AES by the processor's instructions. Each takes some cycles until its result is there, but several can be under way
/// at once, so eight blocks go side by side.
/// </summary>
internal sealed class AesTransform : BlockTransform
{
    private const int Width = 8;
    private readonly AesKeys _keys;

    public AesTransform(ReadOnlySpan<byte> key) => _keys = new AesKeys(key);

    /// <inheritdoc/>
    public override int BlockSize => 16;

    /// <inheritdoc/>
    public override void Encrypt(Span<byte> blocks)
    {
        ref Vector128<byte> keys = ref _keys.Encrypt;
        int rounds = _keys.Rounds;
        Span<Vector128<byte>> all = MemoryMarshal.Cast<byte, Vector128<byte>>(blocks);
        ref Vector128<byte> at = ref MemoryMarshal.GetReference(all);
        int i = 0;
        for (; i <= all.Length - Width; i += Width)
        {
            EncryptEight(ref Unsafe.Add(ref at, i), ref keys, rounds);
        }

        for (; i < all.Length; i++)
        {
            Vector128<byte> block = Unsafe.Add(ref at, i) ^ keys;
            for (int r = 1; r < rounds; r++)
            {
                block = AesX86.Encrypt(block, Unsafe.Add(ref keys, r));
            }

            Unsafe.Add(ref at, i) = AesX86.EncryptLast(block, Unsafe.Add(ref keys, rounds));
        }
    }

    /// <inheritdoc/>
    public override void Decrypt(Span<byte> blocks)
    {
        ref Vector128<byte> keys = ref _keys.Decrypt;
        int rounds = _keys.Rounds;
        Span<Vector128<byte>> all = MemoryMarshal.Cast<byte, Vector128<byte>>(blocks);
        ref Vector128<byte> at = ref MemoryMarshal.GetReference(all);
        int i = 0;
        for (; i <= all.Length - Width; i += Width)
        {
            DecryptEight(ref Unsafe.Add(ref at, i), ref keys, rounds);
        }

        for (; i < all.Length; i++)
        {
            Vector128<byte> block = Unsafe.Add(ref at, i) ^ keys;
            for (int r = 1; r < rounds; r++)
            {
                block = AesX86.Decrypt(block, Unsafe.Add(ref keys, r));
            }

            Unsafe.Add(ref at, i) = AesX86.DecryptLast(block, Unsafe.Add(ref keys, rounds));
        }
    }

    /// <inheritdoc/>
    public override void Dispose() => _keys.Dispose();

    private static void EncryptEight(ref Vector128<byte> at, ref Vector128<byte> keys, int rounds)
    {
        Vector128<byte> k = keys;
        Vector128<byte> b0 = at ^ k;
        Vector128<byte> b1 = Unsafe.Add(ref at, 1) ^ k;
        Vector128<byte> b2 = Unsafe.Add(ref at, 2) ^ k;
        Vector128<byte> b3 = Unsafe.Add(ref at, 3) ^ k;
        Vector128<byte> b4 = Unsafe.Add(ref at, 4) ^ k;
        Vector128<byte> b5 = Unsafe.Add(ref at, 5) ^ k;
        Vector128<byte> b6 = Unsafe.Add(ref at, 6) ^ k;
        Vector128<byte> b7 = Unsafe.Add(ref at, 7) ^ k;
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
        at = AesX86.EncryptLast(b0, k);
        Unsafe.Add(ref at, 1) = AesX86.EncryptLast(b1, k);
        Unsafe.Add(ref at, 2) = AesX86.EncryptLast(b2, k);
        Unsafe.Add(ref at, 3) = AesX86.EncryptLast(b3, k);
        Unsafe.Add(ref at, 4) = AesX86.EncryptLast(b4, k);
        Unsafe.Add(ref at, 5) = AesX86.EncryptLast(b5, k);
        Unsafe.Add(ref at, 6) = AesX86.EncryptLast(b6, k);
        Unsafe.Add(ref at, 7) = AesX86.EncryptLast(b7, k);
    }

    private static void DecryptEight(ref Vector128<byte> at, ref Vector128<byte> keys, int rounds)
    {
        Vector128<byte> k = keys;
        Vector128<byte> b0 = at ^ k;
        Vector128<byte> b1 = Unsafe.Add(ref at, 1) ^ k;
        Vector128<byte> b2 = Unsafe.Add(ref at, 2) ^ k;
        Vector128<byte> b3 = Unsafe.Add(ref at, 3) ^ k;
        Vector128<byte> b4 = Unsafe.Add(ref at, 4) ^ k;
        Vector128<byte> b5 = Unsafe.Add(ref at, 5) ^ k;
        Vector128<byte> b6 = Unsafe.Add(ref at, 6) ^ k;
        Vector128<byte> b7 = Unsafe.Add(ref at, 7) ^ k;
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

        k = Unsafe.Add(ref keys, rounds);
        at = AesX86.DecryptLast(b0, k);
        Unsafe.Add(ref at, 1) = AesX86.DecryptLast(b1, k);
        Unsafe.Add(ref at, 2) = AesX86.DecryptLast(b2, k);
        Unsafe.Add(ref at, 3) = AesX86.DecryptLast(b3, k);
        Unsafe.Add(ref at, 4) = AesX86.DecryptLast(b4, k);
        Unsafe.Add(ref at, 5) = AesX86.DecryptLast(b5, k);
        Unsafe.Add(ref at, 6) = AesX86.DecryptLast(b6, k);
        Unsafe.Add(ref at, 7) = AesX86.DecryptLast(b7, k);
    }
}
