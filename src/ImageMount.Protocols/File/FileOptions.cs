using ImageMount.Core.Graph;
using ImageMount.Core.Options;

namespace ImageMount.Protocols.Files;

/// <summary>Options of the driver <c>file</c>; the names are QEMU's.</summary>
public sealed record FileOptions
{
    /// <summary>Path of a regular file or of a block device.</summary>
    [Option("filename", "Path of the file or block device", Required = true)]
    public string Filename { get; init; } = "";

    /// <summary>Overrides <see cref="OpenFlags.Locking"/>; null: as the graph says.</summary>
    [Option("locking", "Lock the file against other programs, on the bytes that QEMU uses; on: or fail")]
    public LockingMode? Locking { get; init; }
}
