using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Parallels;

/// <summary>One image file, opened: a disk of its own, or a layer of a bundle.</summary>
internal sealed class ParallelsImage
{
    private ParallelsImage(ParallelsHeader header, BlockTable table, ParallelsExtension? extension, FileSpace? space)
    {
        Header = header;
        Table = table;
        Extension = extension;
        Space = space;
    }

    /// <summary>The header.</summary>
    public ParallelsHeader Header { get; }

    /// <summary>The table.</summary>
    public BlockTable Table { get; }

    /// <summary>The format extension, when there is one that is sound.</summary>
    public ParallelsExtension? Extension { get; }

    /// <summary>The file.</summary>
    public BlockNode File => Table.Layout.Node;

    private FileSpace? Space { get; }

    /// <summary>Reads header and extension; to be written, the whole table too.</summary>
    public static async ValueTask<ParallelsImage> OpenAsync(
        BlockNode file, bool writable, Action<string> warn, CancellationToken cancellationToken)
    {
        ParallelsHeader header = await ParallelsHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        var table = new BlockTable(header.MakeLayout(file));
        ParallelsExtension? extension = header.ExtensionOffset == 0 ? null
            : await ParallelsExtension.ReadAsync(file, header, warn, cancellationToken).ConfigureAwait(false);
        FileSpace? space = null;
        if (writable)
        {
            BlockUsage usage = await BlockUsage.ScanAsync(table, null, cancellationToken).ConfigureAwait(false);
            usage.RequireSound();
            space = MakeSpace(header, table, usage, extension);
            if (header.IsUnclean)
            {
                warn("the image was not closed properly; its table is sound");
            }

            if (extension is { Bitmaps.Count: > 0 })
            {
                warn("the first change will drop the image's dirty bitmaps, which cannot follow it");
            }
        }

        return new ParallelsImage(header, table, extension, space);
    }

    /// <summary>The disk in the image, over a parent or alone.</summary>
    public BlockTableMap MakeMap(BlockNode? backing) => new(
        Table, backing, Space is null ? NoFormat.Instance : new ParallelsFormat(File, Header), Space);

    /// <summary>Checks the table, and whether the file is longer than what it holds.</summary>
    public async ValueTask CheckAsync(CheckReport report, CancellationToken cancellationToken)
    {
        BlockUsage usage = await BlockUsage.ScanAsync(Table, report, cancellationToken).ConfigureAwait(false);
        long end = Math.Max(Math.Max(usage.End, Header.DataOffset), Extension?.End ?? 0);
        long unused = (File.Length - end) / Header.ClusterSize;
        if (unused > 0)
        {
            report.Leak($"{File.Name}: {unused} clusters at the end of the file are not in use", unused);
        }
    }

    /// <summary>
    /// New clusters stand on the grid of the old ones: from the start of the data, or of the file where entries count
    /// clusters.
    /// </summary>
    private static FileSpace MakeSpace(
        ParallelsHeader header, BlockTable table, BlockUsage usage, ParallelsExtension? extension)
    {
        long origin = header.IsVersion2 ? 0 : header.DataOffset;
        long end = Math.Max(Math.Max(usage.End, header.DataOffset), extension?.End ?? 0);
        long start = origin + ((end - origin + header.ClusterSize - 1) / header.ClusterSize * header.ClusterSize);
        long last = table.Layout.PlaceOf(uint.MaxValue);
        return new FileSpace(
            table.Layout.Node, start, header.ClusterSize, 0, Math.Max(0, (last - start) / header.ClusterSize));
    }
}
