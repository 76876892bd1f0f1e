using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Security.Cryptography;
using AesX86 = System.Runtime.Intrinsics.X86.Aes;

namespace ImageMount.Formats.Crypto;

/// <summary>The round keys of AES (FIPS 197, section 5.2) for the processor's instructions; overwritten when disposed.</summary>
internal sealed class AesKeys : IDisposable
{
    // The substitution table is computed, not listed: inverse in GF(2^8), then the affine map (FIPS 197, 5.1.1).
    private static readonly byte[] Substitution = MakeSubstitution();

    private readonly Vector128<byte>[] _encrypt;
    private readonly Vector128<byte>[] _decrypt;

    public AesKeys(ReadOnlySpan<byte> key)
    {
        int words = key.Length / 4;
        Rounds = words + 6;
        _encrypt = GC.AllocateArray<Vector128<byte>>(Rounds + 1, pinned: true);
        _decrypt = GC.AllocateArray<Vector128<byte>>(Rounds + 1, pinned: true);
        Span<byte> schedule = MemoryMarshal.AsBytes(_encrypt.AsSpan());
        Expand(key, words, schedule);
        _decrypt[0] = _encrypt[Rounds];
        for (int i = 1; i < Rounds; i++)
        {
            _decrypt[i] = AesX86.InverseMixColumns(_encrypt[Rounds - i]);
        }

        _decrypt[Rounds] = _encrypt[0];
    }

    /// <summary>True where the processor has the instructions.</summary>
    public static bool IsSupported => AesX86.IsSupported && BitConverter.IsLittleEndian;

    /// <summary>10, 12 or 14.</summary>
    public int Rounds { get; }

    /// <summary>Keys for encrypting, in the order of use.</summary>
    public ref Vector128<byte> Encrypt => ref MemoryMarshal.GetArrayDataReference(_encrypt);

    /// <summary>Keys for decrypting (the equivalent inverse cipher), in the order of use.</summary>
    public ref Vector128<byte> Decrypt => ref MemoryMarshal.GetArrayDataReference(_decrypt);

    /// <inheritdoc/>
    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_encrypt.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_decrypt.AsSpan()));
    }

    private static void Expand(ReadOnlySpan<byte> key, int words, Span<byte> schedule)
    {
        key.CopyTo(schedule);
        byte constant = 1;
        for (int i = words; i < schedule.Length / 4; i++)
        {
            uint word = BinaryPrimitives.ReadUInt32LittleEndian(schedule[((i - 1) * 4)..]);
            if (i % words == 0)
            {
                word = Substitute(uint.RotateRight(word, 8)) ^ constant;
                constant = Double(constant);
            }
            else if (words > 6 && i % words == 4)
            {
                word = Substitute(word);
            }

            word ^= BinaryPrimitives.ReadUInt32LittleEndian(schedule[((i - words) * 4)..]);
            BinaryPrimitives.WriteUInt32LittleEndian(schedule[(i * 4)..], word);
        }
    }

    private static uint Substitute(uint word) =>
        Substitution[(byte)word] | (uint)Substitution[(byte)(word >> 8)] << 8
            | (uint)Substitution[(byte)(word >> 16)] << 16 | (uint)Substitution[word >> 24] << 24;

    private static byte Double(byte value) => (byte)((value << 1) ^ ((value & 0x80) != 0 ? 0x1b : 0));

    private static byte[] MakeSubstitution()
    {
        // p runs through the powers of the generator 3, q through those of its inverse, so that q = 1/p throughout.
        var table = new byte[256];
        table[0] = 0x63;
        byte p = 1;
        byte q = 1;
        do
        {
            p = (byte)(p ^ Double(p));
            q ^= (byte)(q << 1);
            q ^= (byte)(q << 2);
            q ^= (byte)(q << 4);
            q ^= (byte)((q & 0x80) != 0 ? 0x09 : 0);
            table[p] = (byte)(q ^ byte.RotateLeft(q, 1) ^ byte.RotateLeft(q, 2) ^ byte.RotateLeft(q, 3)
                ^ byte.RotateLeft(q, 4) ^ 0x63);
        }
        while (p != 1);
        return table;
    }
}
