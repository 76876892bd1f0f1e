using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// What the parts of the driver share: the nodes, the facts of the header, the cached L2 tables and the lock.
/// </summary>
internal sealed class Qcow2Image
{
    public Qcow2Image(
        BlockNode file, BlockNode? dataFile, BlockNode? backing, Qcow2Header header, IUnitDecoder decoder,
        Qcow2Options options)
    {
        File = file;
        DataFile = dataFile;
        Backing = backing;
        Header = header;
        Decoder = decoder;
        L2 = new TableCache(file, Sync, header.Geometry.SliceSize, options.L2CacheSize, WordOrder.BigEndian);
    }

    /// <summary>
    /// The one lock over everything that changes: tables in memory, cached slices, leases, free space. Held for memory
    /// operations only, never over I/O. Lookups of cached tables do not take it.
    /// </summary>
    public Lock Sync { get; } = new();

    /// <summary>The image.</summary>
    public BlockNode File { get; }

    /// <summary>The external data file, or null.</summary>
    public BlockNode? DataFile { get; }

    /// <summary>The parent, or null.</summary>
    public BlockNode? Backing { get; }

    /// <summary>Where payload lies.</summary>
    public BlockNode Payload => DataFile ?? File;

    /// <summary>The header as it was read; what changed since is known by who changed it.</summary>
    public Qcow2Header Header { get; }

    /// <summary>True when the counts were rebuilt, so that the header's dirty bit is no longer set.</summary>
    public bool WasRebuilt { get; set; }

    /// <summary>How the payload is encrypted, or null.</summary>
    public Qcow2Encryption? Encryption { get; init; }

    /// <summary>What requests must look like.</summary>
    public BlockLimits Limits => BlockLimits.Default with
    {
        OptimalTransfer = Geometry.ClusterSize,
        RequestAlignment = Header.CryptMethod == 0 ? 1 : PayloadCipher.Sector,
    };

    /// <summary>Sizes.</summary>
    public Qcow2Geometry Geometry => Header.Geometry;

    /// <summary>Cached L2 tables, of the disk and of its snapshots.</summary>
    public TableCache L2 { get; }

    /// <summary>Decodes compressed clusters.</summary>
    public IUnitDecoder Decoder { get; }

    /// <summary>
    /// True when the parent defines bytes from this guest offset on, so that an unallocated unit does not just read as
    /// zeroes.
    /// </summary>
    public bool ParentCovers(long guestOffset) => Backing is not null && guestOffset < Backing.Length;
}
