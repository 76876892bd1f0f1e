using ImageMount.Core.Options;
using ImageMount.Formats.Luks;

namespace ImageMount.Formats.Qcow2;

/// <summary>Changes of an image's key slots; names are those of <c>qemu-img amend -o</c>.</summary>
public sealed record Qcow2AmendOptions
{
    /// <summary>What becomes of the slots.</summary>
    [Option("encrypt.state", "active: add a passphrase; inactive: remove one.", Required = true)]
    public LuksSlotState State { get; init; }

    /// <summary>The new passphrase.</summary>
    [Option("encrypt.new-secret", "Id of the secret with the passphrase to add.")]
    public string? NewSecret { get; init; }

    /// <summary>The passphrase to remove.</summary>
    [Option("encrypt.old-secret", "Id of the secret with the passphrase to remove, from every slot that it opens.")]
    public string? OldSecret { get; init; }

    /// <summary>Slot.</summary>
    [Option(
        "encrypt.keyslot", "The slot to use or to empty; without it, the first free one.", Min = 0,
        Max = LuksLayout.SlotsV1 - 1)]
    public int? KeySlot { get; init; }

    /// <summary>Time to unlock.</summary>
    [Option(
        "encrypt.iter-time", "How long unlocking with the new passphrase may take on this machine, ms.", Min = 1,
        Max = 60_000)]
    public int IterTimeMs { get; init; } = 2000;

    /// <summary>Exact iterations.</summary>
    [Option(
        "encrypt.pbkdf-force-iterations", "Exactly so many iterations, whatever the time.", Min = 1000, Max = 8 << 20)]
    public int? Iterations { get; init; }

    internal LuksAmendOptions ToLuks() => new()
    {
        State = State,
        NewSecret = NewSecret,
        OldSecret = OldSecret,
        KeySlot = KeySlot,
        IterTimeMs = IterTimeMs,
        Iterations = Iterations,
    };
}
