using ImageMount.Core.Options;

namespace ImageMount.Formats.Qcow;

/// <summary>How the payload of a qcow image is encrypted.</summary>
public enum QcowEncryptionFormat
{
    /// <summary>AES-128-CBC, the passphrase itself is the key.</summary>
    Aes,
}

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record QcowCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Parent, as it is to be written in the image.</summary>
    [Option("backing_file", "Parent image.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent while the image is made.</summary>
    [Option("backing_fmt", "Format of the parent image; not recorded.")]
    public string? BackingFormat { get; init; }

    /// <summary>How the payload is encrypted.</summary>
    [Option("encrypt.format", "Encrypt the payload; there is only aes, which is weak.")]
    public QcowEncryptionFormat? EncryptFormat { get; init; }

    /// <summary>The older spelling of that.</summary>
    [Option("encryption", "The same as encrypt.format=aes.")]
    public bool Encryption { get; init; }

    /// <summary>Id of the passphrase, which has to be there but is not stored.</summary>
    [Option("encrypt.key-secret", "Id of the secret that holds the passphrase.")]
    public string? KeySecret { get; init; }

    /// <summary>True for an encrypted image.</summary>
    public bool IsEncrypted => Encryption || EncryptFormat is not null;
}
