using ImageMount.Core.Options;

namespace ImageMount.Formats.Qcow2;

/// <summary>Options of the qcow2 driver; names are QEMU's where QEMU has them.</summary>
[ChildOption("file", "Where the image is.")]
[ChildOption("backing", "Parent image, instead of the one that the image names; empty for none.")]
[ChildOption("data-file", "External data file, instead of the one that the image names.")]
public sealed record Qcow2Options
{
    /// <summary>Default of <see cref="L2CacheSize"/>, bytes: the tables of 256 GiB with 64 KiB clusters.</summary>
    public const long DefaultL2CacheSize = 32 << 20;

    /// <summary>Default of <see cref="RefcountCacheSize"/>, bytes.</summary>
    public const long DefaultRefcountCacheSize = 2 << 20;

    /// <summary>Id of the secret with the passphrase.</summary>
    [Option("encrypt.key-secret", "Id of the secret that holds the passphrase of an encrypted image.")]
    public string? KeySecret { get; init; }

    /// <summary>How the image is said to be encrypted.</summary>
    [Option("encrypt.format", "How the image has to be encrypted; another is an error.")]
    public Qcow2EncryptionFormat? EncryptFormat { get; init; }

    /// <summary>Bound of the cached L2 tables.</summary>
    [Option("l2-cache-size", "Most memory for cached L2 tables.", IsSize = true, Min = 64 << 10, Max = 4L << 30)]
    public long L2CacheSize { get; init; } = DefaultL2CacheSize;

    /// <summary>Bound of the cached refcount blocks.</summary>
    [Option(
        "refcount-cache-size", "Most memory for cached reference counts.", IsSize = true, Min = 1 << 20,
        Max = 1L << 30)]
    public long RefcountCacheSize { get; init; } = DefaultRefcountCacheSize;

    /// <summary>Whether discarded clusters are discarded in the file too.</summary>
    [Option(
        "pass-discard-request",
        "Discard in the file what the guest discards; without it, clusters are only made free.")]
    public bool PassDiscardRequest { get; init; } = true;
}
