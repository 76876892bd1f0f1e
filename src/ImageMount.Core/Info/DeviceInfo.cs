namespace ImageMount.Core.Info;

/// <summary>What `info` shows of a device; drivers fill in what they know. Sizes are bytes.</summary>
public sealed class DeviceInfo
{
    /// <summary>Driver name: qcow2, vmdk, raw, file…</summary>
    public string Format { get; set; } = "";

    /// <summary>What the node was opened from: a path or a URI without secrets.</summary>
    public string FileName { get; set; } = "";

    /// <summary>Size of the disk as the guest sees it.</summary>
    public long VirtualSize { get; set; }

    /// <summary>Space the image takes on the host, where known.</summary>
    public long? ActualSize { get; set; }

    /// <summary>Allocation unit.</summary>
    public long? ClusterSize { get; set; }

    /// <summary>True when the image was not closed properly.</summary>
    public bool? DirtyFlag { get; set; }

    /// <summary>True when the payload is encrypted.</summary>
    public bool? Encrypted { get; set; }

    /// <summary>True when the image may hold compressed units.</summary>
    public bool? Compressed { get; set; }

    /// <summary>Parent as written in the image.</summary>
    public string? BackingFileName { get; set; }

    /// <summary>Parent as resolved on this host.</summary>
    public string? FullBackingFileName { get; set; }

    /// <summary>Format of the parent as written in the image.</summary>
    public string? BackingFormat { get; set; }

    /// <summary>Internal snapshots, oldest first.</summary>
    public List<SnapshotInfo> Snapshots { get; } = [];

    /// <summary>
    /// Facts of this format only, in the order to show: key as in qemu-img's JSON; value: string, long, bool,
    /// or a list or dictionary of these.
    /// </summary>
    public List<KeyValuePair<string, object>> FormatSpecific { get; } = [];

    /// <summary>
    /// The facts are of the disk itself, not of a file in which it lies: so they are of what shows that disk as it is, too.
    /// </summary>
    public bool IsOfTheDisk { get; set; }

    /// <summary>Driver that <see cref="FormatSpecific"/> comes from, where it is not <see cref="Format"/>.</summary>
    public string? SpecificTo { get; set; }
}

/// <summary>An internal snapshot of an image.</summary>
/// <param name="Id">Unique id within the image.</param>
/// <param name="Name">Name given by the user.</param>
/// <param name="DiskSize">Size of the disk in the snapshot, bytes.</param>
/// <param name="VmStateSize">Bytes of saved machine state; 0 for a disk-only snapshot.</param>
/// <param name="Date">When it was taken.</param>
/// <param name="VmClockNanoseconds">Running time of the guest, ns.</param>
/// <param name="InstructionCount">Guest instruction count, or null when not recorded.</param>
public sealed record SnapshotInfo(
    string Id, string Name, long DiskSize, long VmStateSize, DateTimeOffset Date, ulong VmClockNanoseconds,
    ulong? InstructionCount);

/// <summary>Implemented by devices whose image holds internal snapshots.</summary>
public interface ISnapshotSource
{
    /// <summary>Snapshots in the order of the image's table.</summary>
    IReadOnlyList<SnapshotInfo> Snapshots { get; }

    /// <summary>
    /// A read-only device that shows the disk as it was. It shares the image's nodes; it stays valid, with the same
    /// content, while the image itself is written through the device it came from, until that device closes.
    /// </summary>
    ValueTask<Block.BlockDevice> OpenSnapshotAsync(SnapshotInfo snapshot, CancellationToken cancellationToken);
}
