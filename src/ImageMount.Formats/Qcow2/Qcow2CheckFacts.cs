namespace ImageMount.Formats.Qcow2;

/// <summary>
/// What the check takes from the header: where things begin. Everything behind these places it reads and judges
/// itself, so that a mistake in the driver's own reading of tables cannot hide here.
/// </summary>
internal sealed record Qcow2CheckFacts
{
    public required int ClusterBits { get; init; }

    public required int RefcountOrder { get; init; }

    public required int Version { get; init; }

    /// <summary>Bytes.</summary>
    public required long VirtualSize { get; init; }

    public required bool ExtendedL2 { get; init; }

    public required bool HasDataFile { get; init; }

    /// <summary>Guest data lies in the data file at the guest's own offsets.</summary>
    public required bool DataFileIsRaw { get; init; }

    public required long L1Offset { get; init; }

    /// <summary>Entries.</summary>
    public required long L1Entries { get; init; }

    public required long RefcountTableOffset { get; init; }

    public required long RefcountTableClusters { get; init; }

    public required long SnapshotsOffset { get; init; }

    public required long SnapshotCount { get; init; }

    /// <summary>0 without bitmaps, and where the autoclear bit says that they are no longer to be trusted.</summary>
    public required long BitmapCount { get; init; }

    public required long BitmapDirectoryOffset { get; init; }

    public required long BitmapDirectorySize { get; init; }

    /// <summary>0 without a LUKS header.</summary>
    public required long EncryptionOffset { get; init; }

    /// <summary>Bytes of the LUKS header and its key material.</summary>
    public required long EncryptionLength { get; init; }

    public int ClusterSize => 1 << ClusterBits;

    /// <summary>Bytes of an L2 entry.</summary>
    public int L2EntrySize => ExtendedL2 ? 16 : 8;

    /// <summary>Takes them from a header.</summary>
    public static Qcow2CheckFacts From(Qcow2Header header)
    {
        Qcow2BitmapsExtension bitmaps = header.HasConsistentBitmaps ? header.Bitmaps!.Value : default;
        return new Qcow2CheckFacts
        {
            ClusterBits = header.Geometry.ClusterBits,
            RefcountOrder = header.Geometry.RefcountOrder,
            Version = header.Version,
            VirtualSize = header.Size,
            ExtendedL2 = header.Geometry.ExtendedL2,
            HasDataFile = header.HasDataFile,
            DataFileIsRaw = header.IsDataFileRaw,
            L1Offset = header.L1Offset,
            L1Entries = header.L1Entries,
            RefcountTableOffset = header.RefcountTableOffset,
            RefcountTableClusters = header.RefcountTableClusters,
            SnapshotsOffset = header.SnapshotsOffset,
            EncryptionOffset = (long)(header.Encryption?.Offset.Value ?? 0),
            EncryptionLength = (long)(header.Encryption?.Length.Value ?? 0),
            SnapshotCount = header.SnapshotCount,
            BitmapCount = bitmaps.Count,
            BitmapDirectoryOffset = (long)Math.Min(bitmaps.DirectoryOffset, long.MaxValue),
            BitmapDirectorySize = (long)Math.Min(bitmaps.DirectorySize, long.MaxValue),
        };
    }
}
