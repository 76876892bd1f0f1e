using ImageMount.Core.Block;
using Org.BouncyCastle.Crypto.Engines;

namespace ImageMount.Formats.Crypto;

/// <summary>How blocks are chained.</summary>
public enum CipherMode
{
    /// <summary>XEX with two keys.</summary>
    Xts,

    /// <summary>Cipher block chaining.</summary>
    Cbc,

    /// <summary>Counter.</summary>
    Ctr,

    /// <summary>Each block on its own.</summary>
    Ecb,
}

/// <summary>
/// How sectors are encrypted, as the kernel's dm-crypt names it: "aes-xts-plain64", "aes-cbc-essiv:sha256",
/// "serpent-ecb". The size of the key is not part of the name.
/// </summary>
/// <param name="Cipher">"aes", "serpent", "twofish", "cast5" or "des3_ede".</param>
/// <param name="Mode">Chaining.</param>
/// <param name="Iv">Initialisation vectors.</param>
/// <param name="IvHash">Hash of the key for essiv, else null.</param>
public sealed record CipherSpec(string Cipher, CipherMode Mode, IvKind Iv, string? IvHash)
{
    private const int MaxLength = 64;

    /// <summary>Ciphers, with the sizes of their keys and blocks in bytes.</summary>
    private static readonly Dictionary<string, (int[] Keys, int Block)> Ciphers = new(StringComparer.Ordinal)
    {
        ["aes"] = ([16, 24, 32], 16),
        ["serpent"] = ([16, 24, 32], 16),
        ["twofish"] = ([16, 24, 32], 16),
        ["cast5"] = ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 8),
        ["des3_ede"] = ([24], 8),
    };

    /// <summary>Bytes of a block.</summary>
    public int BlockSize => Ciphers[Cipher].Block;

    /// <summary>The mode as it is written ("xts").</summary>
    public string ModeName => Mode.ToString().ToLowerInvariant();

    /// <summary>The kind of vectors as it is written ("plain64"), without the hash.</summary>
    public string IvName => Iv.ToString().ToLowerInvariant();

    /// <summary>Mode and vectors as they are written ("xts-plain64", "cbc-essiv:sha256", "ecb").</summary>
    public string ModeAndIv => Iv == IvKind.Null ? ModeName
        : IvHash is null ? $"{ModeName}-{IvName}" : $"{ModeName}-{IvName}:{IvHash}";

    /// <summary>Reads "cipher-mode-iv"; what is not known is refused by name.</summary>
    /// <param name="text">The name.</param>
    /// <param name="offset">Where it was found, for messages.</param>
    public static CipherSpec Parse(string text, long? offset = null)
    {
        if (text.Length > MaxLength)
        {
            throw BlockException.Limit("the name of the cipher is too long", text.Length, MaxLength, offset);
        }

        string[] parts = text.Split('-', 3);
        if (!Ciphers.ContainsKey(parts[0]))
        {
            throw Unknown("cipher", parts[0], string.Join(", ", Ciphers.Keys), offset);
        }

        CipherMode mode = (parts.Length < 2 ? "" : parts[1]) switch
        {
            "xts" => CipherMode.Xts,
            "cbc" => CipherMode.Cbc,
            "ctr" => CipherMode.Ctr,
            "ecb" => CipherMode.Ecb,
            string other => throw Unknown("cipher mode", other, "xts, cbc, ctr, ecb", offset),
        };
        string vectors = parts.Length < 3 ? mode == CipherMode.Ecb ? "null" : "" : parts[2];
        string? hash = vectors.StartsWith("essiv:", StringComparison.Ordinal) ? vectors[6..] : null;
        if (hash is null && vectors.IndexOf(':') is > 0 and int colon)
        {
            // QEMU writes "plain64:sha256" when it is told a hash that nothing needs; it and dm-crypt do not look at it.
            Hash.Get(vectors[(colon + 1)..], offset);
            vectors = vectors[..colon];
        }

        IvKind iv = (hash is null ? vectors : "essiv") switch
        {
            "null" => IvKind.Null,
            "plain" => IvKind.Plain,
            "plain64" => IvKind.Plain64,
            "plain64be" => IvKind.Plain64Be,
            "essiv" when hash is not null => IvKind.Essiv,
            string other => throw Unknown(
                "kind of initialisation vectors", other, "plain, plain64, plain64be, essiv:HASH, null", offset),
        };
        if (hash is not null)
        {
            Hash.Get(hash, offset); // Known, or refused here.
        }

        return new CipherSpec(parts[0], mode, mode == CipherMode.Ecb ? IvKind.Null : iv, hash);
    }

    /// <summary>Why a key size does not fit, or null when it does.</summary>
    /// <param name="keySize">Bytes; twice the cipher's for xts.</param>
    public string? WhyNot(int keySize)
    {
        (int[] keys, int block) = Ciphers[Cipher];
        bool isXts = Mode == CipherMode.Xts;
        if (isXts && block != 16)
        {
            return $"mode xts needs blocks of 16 bytes, and {Cipher} has {block}";
        }

        if ((isXts && keySize % 2 != 0) || !keys.Contains(isXts ? keySize / 2 : keySize))
        {
            return $"a key of {keySize} bytes does not fit {Cipher}-{ModeName}";
        }

        return Iv == IvKind.Essiv && !keys.Contains(Hash.Get(IvHash!).Size)
            ? $"the hash {IvHash} does not give a key for {Cipher}, as essiv needs"
            : null;
    }

    /// <summary>Makes the cipher of a key; the key is copied.</summary>
    /// <exception cref="BlockException">InvalidData: the key does not fit.</exception>
    public ISectorCipher Create(ReadOnlySpan<byte> key, int sectorSize = 512) =>
        Create(key, sectorSize, AesKeys.IsSupported);

    /// <summary>The same, with or without the processor's instructions for AES.</summary>
    internal ISectorCipher Create(ReadOnlySpan<byte> key, int sectorSize, bool accelerated)
    {
        if (WhyNot(key.Length) is { } reason)
        {
            throw BlockException.Invalid(reason);
        }

        var vectors = new IvGenerator(Iv, Iv == IvKind.Essiv ? EssivCipher(key, accelerated) : null);
        switch (Mode)
        {
            case CipherMode.Xts when Cipher == "aes" && accelerated && AesXts.IsSupported:
                return new AesXts(key, vectors, sectorSize);
            case CipherMode.Xts:
                int half = key.Length / 2;
                return new XtsMode(
                    Transform(key[..half], accelerated), Transform(key[half..], accelerated), vectors, sectorSize);
            case CipherMode.Cbc:
                return new CbcMode(Transform(key, accelerated), vectors, sectorSize);
            case CipherMode.Ctr:
                return new CtrMode(Transform(key, accelerated), vectors, sectorSize);
            default:
                return new EcbMode(Transform(key, accelerated), sectorSize);
        }
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Cipher}-{ModeAndIv}";

    private BlockTransform EssivCipher(ReadOnlySpan<byte> key, bool accelerated)
    {
        Hash hash = Hash.Get(IvHash!);
        Span<byte> hashed = stackalloc byte[Hash.MaxSize];
        hashed = hashed[..hash.Size];
        hash.Compute(key, hashed);
        BlockTransform cipher = Transform(hashed, accelerated);
        hashed.Clear();
        return cipher;
    }

    private BlockTransform Transform(ReadOnlySpan<byte> key, bool accelerated) => Cipher switch
    {
        "aes" => BlockTransform.OfAes(key, accelerated),
        "serpent" => ArrayTransform.OfEngine(key, 16, static () => new SerpentEngine()),
        "twofish" => ArrayTransform.OfEngine(key, 16, static () => new TwofishEngine()),
        "cast5" => ArrayTransform.OfEngine(key, 8, static () => new Cast5Engine()),
        _ => ArrayTransform.OfEngine(key, 8, static () => new DesEdeEngine()),
    };

    private static BlockException Unknown(string what, string found, string expected, long? offset) =>
        new(BlockErrorKind.NotSupported, $"the {what} '{Printable.Of(found)}' is not supported")
        {
            Offset = offset,
            Expected = expected,
        };
}
