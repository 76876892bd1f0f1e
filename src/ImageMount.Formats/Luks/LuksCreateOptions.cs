using ImageMount.Core.Options;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>
/// What a new image is to be like; names are those of <c>qemu-img create -o</c>, and cryptsetup's where QEMU has none.
/// </summary>
public sealed record LuksCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Id of the passphrase.</summary>
    [Option("key-secret", "Id of the secret that holds the passphrase.")]
    public string? KeySecret { get; init; }

    /// <summary>Version of LUKS.</summary>
    [Option("version", "Version of LUKS: 1, which QEMU reads too, or 2.", Min = 1, Max = 2)]
    public int Version { get; init; } = 1;

    /// <summary>Cipher.</summary>
    [Option("cipher-alg", "Cipher, with the bits of its key.")]
    public LuksCipher Cipher { get; init; } = LuksCipher.Aes256;

    /// <summary>Mode.</summary>
    [Option("cipher-mode", "Mode of the cipher.")]
    public CipherMode Mode { get; init; } = CipherMode.Xts;

    /// <summary>Initialisation vectors.</summary>
    [Option("ivgen-alg", "How initialisation vectors are made.")]
    public LuksIv Iv { get; init; } = LuksIv.Plain64;

    /// <summary>Hash for essiv.</summary>
    [Option("ivgen-hash-alg", "Hash of the key for essiv.")]
    public LuksHash IvHash { get; init; } = LuksHash.Sha256;

    /// <summary>Hash for keys.</summary>
    [Option("hash-alg", "Hash for key derivation, key splitting and digest.")]
    public LuksHash Hash { get; init; } = LuksHash.Sha256;

    /// <summary>Time to unlock.</summary>
    [Option("iter-time", "How long unlocking may take on this machine, ms.", Min = 1, Max = 60_000)]
    public int IterTimeMs { get; init; } = 2000;

    /// <summary>Key derivation of LUKS2.</summary>
    [Option("pbkdf", "Key derivation of LUKS2 (LUKS1 has only pbkdf2).")]
    public LuksPbkdf? Pbkdf { get; init; }

    /// <summary>Memory of Argon2.</summary>
    [Option("pbkdf-memory", "Memory for argon2 in KiB; without it, by the time.", Min = 32, Max = 4 << 20)]
    public int? PbkdfMemoryKiB { get; init; }

    /// <summary>Exact iterations.</summary>
    [Option("pbkdf-force-iterations", "Exactly so many iterations or passes, whatever the time.", Min = 4, Max = 8 << 20)]
    public int? Iterations { get; init; }

    /// <summary>Sectors of LUKS2.</summary>
    [Option("sector-size", "What is encrypted as one: 512, 1024, 2048 or 4096 bytes; more than 512 needs LUKS2.",
        Min = 512, Max = 4096)]
    public int SectorSize { get; init; } = 512;

    /// <summary>Label of LUKS2.</summary>
    [Option("label", "Label, up to 47 bytes; needs LUKS2.")]
    public string? Label { get; init; }
}
