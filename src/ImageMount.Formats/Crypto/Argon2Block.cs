using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace ImageMount.Formats.Crypto;

/// <summary>The compression function G of Argon2 (RFC 9106, 3.5): two blocks of 1 KiB into one.</summary>
internal static class Argon2Block
{
    private const int Words = 128;

    /// <summary>Compresses; <paramref name="target"/> may be one of the inputs.</summary>
    /// <param name="left">1 KiB.</param>
    /// <param name="right">1 KiB.</param>
    /// <param name="target">1 KiB.</param>
    /// <param name="add">Adds the result to what the target holds (later passes).</param>
    public static void Compress(ReadOnlySpan<ulong> left, ReadOnlySpan<ulong> right, Span<ulong> target, bool add)
    {
        Span<ulong> sum = stackalloc ulong[Words];
        Span<ulong> mixed = stackalloc ulong[Words];
        for (int i = 0; i < Words; i += 4)
        {
            Vector256<ulong> both = Vector256.Create(left[i..]) ^ Vector256.Create(right[i..]);
            both.CopyTo(mixed[i..]);
            (add ? both ^ Vector256.Create((ReadOnlySpan<ulong>)target[i..]) : both).CopyTo(sum[i..]);
        }

        ref ulong at = ref MemoryMarshal.GetReference(mixed);
        for (nuint row = 0; row < Words; row += 16)
        {
            Vector256<ulong> a = Vector256.LoadUnsafe(ref at, row);
            Vector256<ulong> b = Vector256.LoadUnsafe(ref at, row + 4);
            Vector256<ulong> c = Vector256.LoadUnsafe(ref at, row + 8);
            Vector256<ulong> d = Vector256.LoadUnsafe(ref at, row + 12);
            Permute(ref a, ref b, ref c, ref d);
            a.StoreUnsafe(ref at, row);
            b.StoreUnsafe(ref at, row + 4);
            c.StoreUnsafe(ref at, row + 8);
            d.StoreUnsafe(ref at, row + 12);
        }

        for (nuint column = 0; column < 16; column += 2)
        {
            Vector256<ulong> a = LoadPair(ref at, column);
            Vector256<ulong> b = LoadPair(ref at, column + 32);
            Vector256<ulong> c = LoadPair(ref at, column + 64);
            Vector256<ulong> d = LoadPair(ref at, column + 96);
            Permute(ref a, ref b, ref c, ref d);
            StorePair(a, ref at, column);
            StorePair(b, ref at, column + 32);
            StorePair(c, ref at, column + 64);
            StorePair(d, ref at, column + 96);
        }

        for (int i = 0; i < Words; i += 4)
        {
            (Vector256.Create((ReadOnlySpan<ulong>)sum[i..]) ^ Vector256.Create((ReadOnlySpan<ulong>)mixed[i..]))
                .CopyTo(target[i..]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ulong> LoadPair(ref ulong at, nuint index) =>
        Vector256.Create(Vector128.LoadUnsafe(ref at, index), Vector128.LoadUnsafe(ref at, index + 16));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePair(Vector256<ulong> pair, ref ulong at, nuint index)
    {
        pair.GetLower().StoreUnsafe(ref at, index);
        pair.GetUpper().StoreUnsafe(ref at, index + 16);
    }

    /// <summary>The permutation P on sixteen words, four to a vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Permute(
        ref Vector256<ulong> a, ref Vector256<ulong> b, ref Vector256<ulong> c, ref Vector256<ulong> d)
    {
        Mix(ref a, ref b, ref c, ref d);
        b = Vector256.Shuffle(b, Vector256.Create(1UL, 2, 3, 0));
        c = Vector256.Shuffle(c, Vector256.Create(2UL, 3, 0, 1));
        d = Vector256.Shuffle(d, Vector256.Create(3UL, 0, 1, 2));
        Mix(ref a, ref b, ref c, ref d);
        b = Vector256.Shuffle(b, Vector256.Create(3UL, 0, 1, 2));
        c = Vector256.Shuffle(c, Vector256.Create(2UL, 3, 0, 1));
        d = Vector256.Shuffle(d, Vector256.Create(1UL, 2, 3, 0));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Mix(
        ref Vector256<ulong> a, ref Vector256<ulong> b, ref Vector256<ulong> c, ref Vector256<ulong> d)
    {
        a = AddAndMultiply(a, b);
        d = Rotate(d ^ a, 32);
        c = AddAndMultiply(c, d);
        b = Rotate(b ^ c, 24);
        a = AddAndMultiply(a, b);
        d = Rotate(d ^ a, 16);
        c = AddAndMultiply(c, d);
        b = Rotate(b ^ c, 63);
    }

    /// <summary>a + b + 2 · low(a) · low(b), in each word.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ulong> AddAndMultiply(Vector256<ulong> a, Vector256<ulong> b)
    {
        Vector256<ulong> low = Vector256.Create((ulong)uint.MaxValue);
        Vector256<ulong> product = Avx2.IsSupported
            ? Avx2.Multiply(a.AsUInt32(), b.AsUInt32())
            : (a & low) * (b & low);
        return a + b + product + product;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ulong> Rotate(Vector256<ulong> value, int bits) =>
        (value >>> bits) | (value << (64 - bits));
}
