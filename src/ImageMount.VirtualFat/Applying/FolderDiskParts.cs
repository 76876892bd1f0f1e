namespace ImageMount.VirtualFat.Applying;

/// <summary>What a <see cref="FolderDisk"/> is put together from.</summary>
internal sealed record FolderDiskParts
{
    /// <summary>The folder, open; its owner closes it.</summary>
    public required Microsoft.Win32.SafeHandles.SafeFileHandle Root { get; init; }

    /// <summary>What messages call it.</summary>
    public required string Name { get; init; }

    /// <summary>Zone of the disk's times.</summary>
    public required TimeZoneInfo Zone { get; init; }

    /// <summary>What is kept in a journal's file beside the blocks.</summary>
    public required Func<FolderState, byte[]> EncodeState { get; init; }

    /// <summary>Told what the user should know.</summary>
    public required Action<string> Warn { get; init; }

    /// <summary>See <see cref="HostChanges"/>.</summary>
    public Action<string>? Hook { get; init; }

    /// <summary>See <see cref="HostLack"/>.</summary>
    public HostLack Lack { get; init; }
}
