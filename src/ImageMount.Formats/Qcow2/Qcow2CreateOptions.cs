using ImageMount.Core.Options;
using ImageMount.Formats.Crypto;
using ImageMount.Formats.Luks;

namespace ImageMount.Formats.Qcow2;

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record Qcow2CreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Version of the format.</summary>
    [Option("compat", "Version: 0.10 (2) or 1.1 (3).", Aliases = ["version"])]
    public string Compat { get; init; } = "1.1";

    /// <summary>Cluster size, bytes.</summary>
    [Option("cluster_size", "Allocation unit, a power of two.", IsSize = true, Min = 512, Max = 2 << 20)]
    public int ClusterSize { get; init; } = 64 << 10;

    /// <summary>Width of a reference count.</summary>
    [Option("refcount_bits", "Width of a reference count in bits: 1, 2, 4 … 64.", Min = 1, Max = 64)]
    public int RefcountBits { get; init; } = 16;

    /// <summary>Whether other programs may write reference counts late.</summary>
    [Option("lazy_refcounts", "Let programs write reference counts late, under the dirty bit.")]
    public bool LazyRefcounts { get; init; }

    /// <summary>Whether clusters have subclusters.</summary>
    [Option("extended_l2", "Subclusters: 32 parts of a cluster that are allocated on their own.")]
    public bool ExtendedL2 { get; init; }

    /// <summary>Parent, as it is to be written in the image.</summary>
    [Option("backing_file", "Parent image.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent.</summary>
    [Option("backing_fmt", "Format of the parent image.")]
    public string? BackingFormat { get; init; }

    /// <summary>Data file, as it is to be written in the image.</summary>
    [Option("data_file", "File that holds the guest's data, outside the image.")]
    public string? DataFile { get; init; }

    /// <summary>Whether the data file is a raw image by itself.</summary>
    [Option("data_file_raw", "Keep the data file usable as a raw image.")]
    public bool DataFileRaw { get; init; }

    /// <summary>Compression of compressed clusters.</summary>
    [Option("compression_type", "Compression of compressed clusters: zlib or zstd.")]
    public string CompressionType { get; init; } = "zlib";

    /// <summary>How the payload is encrypted.</summary>
    [Option("encrypt.format", "Encrypt the payload: luks, or the older, weak aes.")]
    public Qcow2EncryptionFormat? EncryptFormat { get; init; }

    /// <summary>The older spelling of that.</summary>
    [Option("encryption", "The same as encrypt.format=aes.")]
    public bool Encryption { get; init; }

    /// <summary>Id of the passphrase.</summary>
    [Option("encrypt.key-secret", "Id of the secret that holds the passphrase.")]
    public string? EncryptKeySecret { get; init; }

    /// <summary>Cipher.</summary>
    [Option("encrypt.cipher-alg", "Cipher, with the bits of its key.")]
    public LuksCipher EncryptCipher { get; init; } = LuksCipher.Aes256;

    /// <summary>Mode.</summary>
    [Option("encrypt.cipher-mode", "Mode of the cipher.")]
    public CipherMode EncryptMode { get; init; } = CipherMode.Xts;

    /// <summary>Initialisation vectors.</summary>
    [Option("encrypt.ivgen-alg", "How initialisation vectors are made.")]
    public LuksIv EncryptIv { get; init; } = LuksIv.Plain64;

    /// <summary>Hash for essiv.</summary>
    [Option("encrypt.ivgen-hash-alg", "Hash of the key for essiv.")]
    public LuksHash EncryptIvHash { get; init; } = LuksHash.Sha256;

    /// <summary>Hash for keys.</summary>
    [Option("encrypt.hash-alg", "Hash for key derivation, key splitting and digest.")]
    public LuksHash EncryptHash { get; init; } = LuksHash.Sha256;

    /// <summary>Time to unlock.</summary>
    [Option("encrypt.iter-time", "How long unlocking may take on this machine, ms.", Min = 1, Max = 60_000)]
    public int EncryptIterTimeMs { get; init; } = 2000;

    /// <summary>Exact iterations.</summary>
    [Option(
        "encrypt.pbkdf-force-iterations", "Exactly so many iterations, whatever the time.", Min = 1000, Max = 8 << 20)]
    public int? EncryptIterations { get; init; }
}
