using ImageMount.Interop;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// What a file or folder of the host is known by. A file is the same when inode, size and time are; a folder, whose
/// size and time change with its entries, when the inode is.
/// </summary>
/// <param name="Inode">Inode number; 0 when there is nothing.</param>
/// <param name="Size">Bytes of a file.</param>
/// <param name="ModifiedNs">When it was last written, nanoseconds since 1970.</param>
/// <param name="IsFolder">True for a folder.</param>
internal readonly record struct HostIdentity(ulong Inode, long Size, long ModifiedNs, bool IsFolder)
{
    /// <summary>Nothing.</summary>
    public static readonly HostIdentity None;

    /// <summary>True when there is something.</summary>
    public bool Exists => Inode != 0;

    /// <summary>Of a file or folder; <see cref="None"/> for anything else.</summary>
    public static HostIdentity Of(in StatInfo info) =>
        info.IsDirectory ? Folder(info.Inode)
        : info.IsRegular ? new(info.Inode, info.Size, info.ModifiedNs, false)
        : None;

    /// <summary>Of a folder.</summary>
    public static HostIdentity Folder(ulong inode) => new(inode, 0, 0, true);

    /// <summary>True when it is the same object, changed or not.</summary>
    public bool IsSameObject(HostIdentity other) => Exists && Inode == other.Inode && IsFolder == other.IsFolder;
}
