using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Parallels;

/// <summary>
/// Makes an image of version 2: header, table, and from the next whole cluster on the data. The header comes last.
/// </summary>
internal sealed class ParallelsCreator : ImageCreator<ParallelsCreateOptions>
{
    private const int Heads = 16;
    private const int SectorsPerTrack = 32;

    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, ParallelsCreateOptions options, CancellationToken cancellationToken)
    {
        int cluster = options.ClusterSize;
        if (cluster % ParallelsLayout.SectorSize != 0)
        {
            throw Wrong("cluster_size is a multiple of 512");
        }

        long sectors = (options.Size / ParallelsLayout.SectorSize)
            + (options.Size % ParallelsLayout.SectorSize == 0 ? 0 : 1);
        long entries = (options.Size / cluster) + (options.Size % cluster == 0 ? 0 : 1);
        if (entries > BlockTableLayout.MaxEntries)
        {
            throw Wrong(
                $"a disk of this size needs more than {BlockTableLayout.MaxEntries} clusters; make cluster_size larger");
        }

        long data = (ParallelsLayout.HeaderSize + (entries * sizeof(uint)) + cluster - 1) / cluster * cluster;
        BlockNode file = context.File;
        if (!await file.TryResizeAsync(data, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, $"'{file.Name}' cannot grow");
        }

        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        var bytes = new byte[ParallelsLayout.HeaderSize];
        ParallelsLayout.MagicV2.CopyTo(bytes);
        var header = new ParallelsRawHeader
        {
            Version = ParallelsLayout.Version,
            Heads = Heads,
            Cylinders = (uint)Math.Min(uint.MaxValue, sectors / Heads / SectorsPerTrack),
            ClusterSectors = (uint)(cluster / ParallelsLayout.SectorSize),
            Entries = (uint)entries,
            Sectors = (ulong)sectors,
            DataSector = (uint)(data / ParallelsLayout.SectorSize),
        };
        MemoryMarshal.Write(bytes.AsSpan(16), in header);
        await file.WriteAsync(0, bytes, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);
}
