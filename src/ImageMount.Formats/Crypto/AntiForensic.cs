using System.Buffers.Binary;
using System.Security.Cryptography;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// The anti-forensic splitter of LUKS (LUKS1 On-Disk Format Specification 1.2.3, section 2.4): a key is blown up so that
/// all of the result is needed to get it back, and destroying any part of that destroys the key.
/// </summary>
internal static class AntiForensic
{
    /// <summary>Splits a key into <paramref name="stripes"/> pieces of its own size.</summary>
    public static void Split(ReadOnlySpan<byte> key, int stripes, Hash hash, Span<byte> result)
    {
        int size = key.Length;
        RandomNumberGenerator.Fill(result[..(size * (stripes - 1))]);
        byte[] sum = GC.AllocateArray<byte>(size, pinned: true);
        for (int i = 0; i < stripes - 1; i++)
        {
            AddAndDiffuse(sum, result.Slice(i * size, size), hash);
        }

        Span<byte> last = result.Slice((stripes - 1) * size, size);
        for (int i = 0; i < size; i++)
        {
            last[i] = (byte)(sum[i] ^ key[i]);
        }

        CryptographicOperations.ZeroMemory(sum);
    }

    /// <summary>Puts a key together again.</summary>
    public static void Merge(ReadOnlySpan<byte> split, int stripes, Hash hash, Span<byte> key)
    {
        int size = key.Length;
        key.Clear();
        for (int i = 0; i < stripes - 1; i++)
        {
            AddAndDiffuse(key, split.Slice(i * size, size), hash);
        }

        ReadOnlySpan<byte> last = split.Slice((stripes - 1) * size, size);
        for (int i = 0; i < size; i++)
        {
            key[i] ^= last[i];
        }
    }

    private static void AddAndDiffuse(Span<byte> sum, ReadOnlySpan<byte> stripe, Hash hash)
    {
        for (int i = 0; i < sum.Length; i++)
        {
            sum[i] ^= stripe[i];
        }

        Span<byte> input = stackalloc byte[4 + Hash.MaxSize];
        Span<byte> output = stackalloc byte[Hash.MaxSize];
        output = output[..hash.Size];
        int block = 0;
        for (int at = 0; at < sum.Length; at += hash.Size, block++)
        {
            Span<byte> part = sum.Slice(at, Math.Min(hash.Size, sum.Length - at));
            BinaryPrimitives.WriteInt32BigEndian(input, block);
            part.CopyTo(input[4..]);
            hash.Compute(input[..(4 + part.Length)], output);
            output[..part.Length].CopyTo(part);
        }

        input.Clear();
        output.Clear();
    }
}
