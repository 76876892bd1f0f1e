using ImageMount.Core.Options;

namespace ImageMount.Formats.Luks;

/// <summary>Options of driver "luks"; names are QEMU's where QEMU has them.</summary>
[ChildOption("file", "The encrypted data, with the header before it unless that is elsewhere.")]
[ChildOption("header", "A detached header.")]
public sealed record LuksOptions
{
    /// <summary>Id of the secret with the passphrase.</summary>
    [Option("key-secret", "Id of the secret that holds the passphrase.")]
    public string? KeySecret { get; init; }

    /// <summary>The only key slot to try.</summary>
    [Option("keyslot", "Try only this key slot.", Min = 0, Max = LuksLayout.SlotsV2 - 1)]
    public int? KeySlot { get; init; }
}
