using ImageMount.Core.Options;

namespace ImageMount.Formats.Luks;

/// <summary>What becomes of key slots.</summary>
public enum LuksSlotState
{
    /// <summary>A passphrase is added.</summary>
    Active,

    /// <summary>Passphrases are removed, and their key material destroyed.</summary>
    Inactive,
}

/// <summary>Changes of key slots; names are those of <c>qemu-img amend -o</c>.</summary>
public sealed record LuksAmendOptions
{
    /// <summary>What becomes of the slots.</summary>
    [Option("state", "active: add a passphrase; inactive: remove one.", Required = true)]
    public LuksSlotState State { get; init; }

    /// <summary>The new passphrase.</summary>
    [Option("new-secret", "Id of the secret with the passphrase to add.")]
    public string? NewSecret { get; init; }

    /// <summary>The passphrase to remove.</summary>
    [Option("old-secret", "Id of the secret with the passphrase to remove, from every slot that it opens.")]
    public string? OldSecret { get; init; }

    /// <summary>Slot.</summary>
    [Option("keyslot", "The slot to use or to empty; without it, the first free one.", Min = 0, Max = LuksLayout.SlotsV2 - 1)]
    public int? KeySlot { get; init; }

    /// <summary>Time to unlock.</summary>
    [Option("iter-time", "How long unlocking with the new passphrase may take on this machine, ms.", Min = 1, Max = 60_000)]
    public int IterTimeMs { get; init; } = 2000;

    /// <summary>Key derivation.</summary>
    [Option("pbkdf", "Key derivation of the new slot; without it, as in the slots that there are. LUKS2.")]
    public LuksPbkdf? Pbkdf { get; init; }

    /// <summary>Memory of Argon2.</summary>
    [Option("pbkdf-memory", "Memory for argon2 in KiB; without it, by the time.", Min = 32, Max = 4 << 20)]
    public int? PbkdfMemoryKiB { get; init; }

    /// <summary>Exact iterations.</summary>
    [Option("pbkdf-force-iterations", "Exactly so many iterations or passes, whatever the time.", Min = 4, Max = 8 << 20)]
    public int? Iterations { get; init; }
}
