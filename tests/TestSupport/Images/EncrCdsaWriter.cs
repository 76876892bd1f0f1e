using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace ImageMount.TestSupport.Images;

/// <summary>Makes encrypted disk images (version 2) from the description of the format; no peer here does.</summary>
public sealed class EncrCdsaWriter
{
    /// <summary>Where the content begins.</summary>
    public const int DataOffset = 0x1200;

    /// <summary>The passphrase.</summary>
    public string Passphrase { get; init; } = "correct horse";

    /// <summary>128 or 256.</summary>
    public int KeyBits { get; init; } = 128;

    /// <summary>Bytes that are encrypted as one.</summary>
    public int ChunkSize { get; init; } = 512;

    /// <summary>Rounds of the key derivation; few, for tests.</summary>
    public int Iterations { get; init; } = 10;

    /// <summary>False: the last chunk ends with the content, rounded to 16 bytes.</summary>
    public bool HasWholeChunks { get; init; } = true;

    /// <summary>Encrypts a content.</summary>
    public byte[] Build(byte[] content)
    {
        int whole = (content.Length + ChunkSize - 1) / ChunkSize * ChunkSize;
        byte[] padded = new byte[whole];
        content.CopyTo(padded, 0);
        byte[] keys = TestPattern.Make(KeyBits / 8 + 20, 0, KeyBits);
        using var aes = Aes.Create();
        aes.Key = keys[..(KeyBits / 8)];
        var file = new MemoryStream();
        file.Write(MakeHeader(content.Length, keys));
        for (int at = 0; at < whole; at += ChunkSize)
        {
            byte[] number = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(number, at / ChunkSize);
            byte[] iv = HMACSHA1.HashData(keys[(KeyBits / 8)..], number)[..16];
            file.Write(aes.EncryptCbc(padded.AsSpan(at, ChunkSize), iv, PaddingMode.None));
        }

        int end = HasWholeChunks ? whole : (content.Length + 15) / 16 * 16;
        return file.ToArray()[..(DataOffset + end)];
    }

    /// <summary>A header with two keys, of which the first is for a certificate.</summary>
    private byte[] MakeHeader(long length, byte[] keys)
    {
        const int KeyOffset = 0x400;
        byte[] header = new byte[DataOffset];
        Encoding.ASCII.GetBytes("encrcdsa", header);
        Put(header, 8, 2, 16, 5, 0x80000001, (uint)KeyBits, 0x5b, 160);
        Put(header, 52, (uint)ChunkSize, 0, (uint)length, 0, DataOffset, 2);
        Put(header, 76, 2, 0, 0x200, 0, 0x100);
        Put(header, 96, 1, 0, KeyOffset, 0, 0x268);
        byte[] salt = TestPattern.Make(20, 0, 7);
        byte[] iv = TestPattern.Make(8, 0, 8);
        Put(header, KeyOffset, 103, 0, (uint)Iterations, 20);
        salt.CopyTo(header, KeyOffset + 16);
        Put(header, KeyOffset + 48, 8);
        iv.CopyTo(header, KeyOffset + 52);
        using var cipher = TripleDES.Create();
        cipher.Key = Rfc2898DeriveBytes.Pbkdf2(
            Encoding.UTF8.GetBytes(Passphrase), salt, Iterations, HashAlgorithmName.SHA1, 24);
        byte[] plain = [.. keys, .. "CKIE\0"u8];
        byte[] blob = cipher.EncryptCbc(plain, iv, PaddingMode.PKCS7);
        Put(header, KeyOffset + 84, 192, 17, 7, 6, (uint)blob.Length);
        blob.CopyTo(header, KeyOffset + 104);
        return header;
    }

    private static void Put(byte[] bytes, int at, params uint[] numbers)
    {
        foreach (uint number in numbers)
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at), number);
            at += 4;
        }
    }
}
