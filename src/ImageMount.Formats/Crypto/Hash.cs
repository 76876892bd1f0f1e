using System.Buffers.Binary;
using System.Security.Cryptography;
using ImageMount.Core.Block;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// A hash function by its name in disk headers, and PBKDF2 (RFC 8018) with it. The platform's where it has it, else
/// BouncyCastle's.
/// </summary>
public sealed class Hash
{
    /// <summary>Largest result, bytes.</summary>
    public const int MaxSize = 64;

    private static readonly Hash[] All =
    [
        new("sha1", 20, HashAlgorithmName.SHA1, null),
        new("sha224", 28, null, static () => new Sha224Digest()),
        new("sha256", 32, HashAlgorithmName.SHA256, null),
        new("sha384", 48, HashAlgorithmName.SHA384, null),
        new("sha512", 64, HashAlgorithmName.SHA512, null),
        new("ripemd160", 20, null, static () => new RipeMD160Digest()),
        new("whirlpool", 64, null, static () => new WhirlpoolDigest()),
    ];

    private readonly HashAlgorithmName? _platform;
    private readonly Func<IDigest>? _other;

    private Hash(string name, int size, HashAlgorithmName? platform, Func<IDigest>? other)
    {
        Name = name;
        Size = size;
        _platform = platform;
        _other = other;
    }

    /// <summary>"sha256".</summary>
    public string Name { get; }

    /// <summary>Bytes of the result.</summary>
    public int Size { get; }

    /// <summary>The hash of a name; another is refused by name.</summary>
    public static Hash Get(string name, long? offset = null) =>
        Array.Find(All, hash => hash.Name == name)
            ?? throw new BlockException(
                BlockErrorKind.NotSupported, $"the hash '{Printable.Of(name)}' is not supported")
            {
                Offset = offset,
                Expected = string.Join(", ", All.Select(hash => hash.Name)),
            };

    /// <summary>Hashes bytes into exactly <see cref="Size"/> bytes.</summary>
    public void Compute(ReadOnlySpan<byte> data, Span<byte> result)
    {
        if (_platform is { } platform)
        {
            CryptographicOperations.HashData(platform, data, result);
            return;
        }

        IDigest digest = _other!();
        byte[] copy = GC.AllocateUninitializedArray<byte>(data.Length, pinned: true);
        byte[] output = GC.AllocateUninitializedArray<byte>(Size, pinned: true);
        data.CopyTo(copy);
        digest.BlockUpdate(copy, 0, copy.Length);
        digest.DoFinal(output, 0);
        output.CopyTo(result);
        CryptographicOperations.ZeroMemory(copy);
        CryptographicOperations.ZeroMemory(output);
    }

    /// <summary>Derives a key from a passphrase.</summary>
    public void Pbkdf2(ReadOnlySpan<byte> passphrase, ReadOnlySpan<byte> salt, int iterations, Span<byte> key)
    {
        if (_platform is { } platform)
        {
            Rfc2898DeriveBytes.Pbkdf2(passphrase, salt, key, iterations, platform);
            return;
        }

        using var mac = new DigestMac(_other!, passphrase);
        var seed = new byte[salt.Length + 4];
        salt.CopyTo(seed);
        byte[] round = GC.AllocateUninitializedArray<byte>(Size, pinned: true);
        Span<byte> sum = stackalloc byte[MaxSize];
        sum = sum[..Size];
        for (int block = 1; !key.IsEmpty; block++)
        {
            BinaryPrimitives.WriteInt32BigEndian(seed.AsSpan(salt.Length), block);
            mac.Compute(seed, round);
            round.CopyTo(sum);
            for (int i = 1; i < iterations; i++)
            {
                mac.Compute(round, round);
                for (int k = 0; k < round.Length; k++)
                {
                    sum[k] ^= round[k];
                }
            }

            int count = Math.Min(Size, key.Length);
            sum[..count].CopyTo(key);
            key = key[count..];
        }

        sum.Clear();
        CryptographicOperations.ZeroMemory(round);
    }
}
