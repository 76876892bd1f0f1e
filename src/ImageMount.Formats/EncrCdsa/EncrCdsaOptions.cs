using ImageMount.Core.Options;

namespace ImageMount.Formats.EncrCdsa;

/// <summary>Options of the encrcdsa driver.</summary>
[ChildOption("file", "The encrypted image.")]
public sealed record EncrCdsaOptions
{
    /// <summary>Which secret is the passphrase.</summary>
    [Option(
        "key-secret",
        "Id of the secret that is the passphrase; without it the one of --passphrase-file, or a prompt.")]
    public string? KeySecret { get; init; }
}
