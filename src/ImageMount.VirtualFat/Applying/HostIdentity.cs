using ImageMount.Interop;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// What a file or folder of the host is known by. A file has the same contents when inode, size and time are the same;
/// a folder, whose size and time change with its entries, when the inode is. Two are equal by these. The time of change,
/// which nobody can set back, is told apart by <see cref="IsStill"/>, because our own renaming changes it too.
/// </summary>
/// <param name="Inode">Inode number; 0 when there is nothing.</param>
/// <param name="Size">Bytes of a file.</param>
/// <param name="ModifiedNs">When it was last written, nanoseconds since 1970.</param>
/// <param name="IsFolder">True for a folder.</param>
internal readonly record struct HostIdentity(ulong Inode, long Size, long ModifiedNs, bool IsFolder)
{
    /// <summary>Nothing.</summary>
    public static readonly HostIdentity None;

    /// <summary>
    /// When contents, name, owner or mode of a file last changed, nanoseconds since 1970; 0 where that is not known, as
    /// after a renaming of ours that was cut off.
    /// </summary>
    public long ChangedNs { get; init; }

    /// <summary>True when there is something.</summary>
    public bool Exists => Inode != 0;

    /// <summary>Of a file or folder; <see cref="None"/> for anything else.</summary>
    public static HostIdentity Of(in StatInfo info) =>
        info.IsDirectory ? Folder(info.Inode)
        : info.IsRegular ? new(info.Inode, info.Size, info.ModifiedNs, false) { ChangedNs = info.ChangedNs }
        : None;

    /// <summary>Of a folder.</summary>
    public static HostIdentity Folder(ulong inode) => new(inode, 0, 0, true);

    /// <summary>True when it is the same object, changed or not.</summary>
    public bool IsSameObject(HostIdentity other) => Exists && Inode == other.Inode && IsFolder == other.IsFolder;

    /// <summary>
    /// True when nobody has touched it since it was <paramref name="was"/>: writing that leaves size and time as they
    /// were (setting the time back, or within one step of the file system's clock) changes the time of change.
    /// </summary>
    public bool IsStill(HostIdentity was) =>
        this == was && (ChangedNs == was.ChangedNs || ChangedNs == 0 || was.ChangedNs == 0);

    /// <inheritdoc/>
    public bool Equals(HostIdentity other) => Inode == other.Inode && Size == other.Size
        && ModifiedNs == other.ModifiedNs && IsFolder == other.IsFolder;

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Inode, Size, ModifiedNs, IsFolder);
}
