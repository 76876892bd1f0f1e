using ImageMount.Core.Options;

namespace ImageMount.Formats.Qcow;

/// <summary>Options of driver "qcow".</summary>
[ChildOption("file", "Where the image is.")]
[ChildOption("backing", "Parent image, instead of the one that the image names; empty for none.")]
public sealed record QcowOptions
{
    /// <summary>Id of the secret with the passphrase.</summary>
    [Option("encrypt.key-secret", "Id of the secret that holds the passphrase of an encrypted image.")]
    public string? KeySecret { get; init; }
}
