using System.Globalization;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Dmg;

/// <summary>
/// UDIF, the compressed disk images of macOS, in one file or several segments. Read-only by nature: units are stored
/// one after the other, as long as they came out.
/// </summary>
public sealed class DmgDriver : BlockDriver<DmgOptions>
{
    /// <inheritdoc/>
    public override string Name => "dmg";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Apple disk images (UDIF), compressed or not, whole or in segments; for reading.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        var reader = new SpanReader(input.Tail);
        return input.Tail.Length == DmgLayout.TrailerSize
            && reader.TryRead(out Be32 magic) && magic == DmgLayout.TrailerMagic
            && reader.TryRead(out Be32 version) && version == DmgLayout.Version ? 100 : 0;
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, DmgOptions options, CancellationToken cancellationToken)
    {
        ReadOnlyFormat.RefuseWriting(context.Flags, "UDIF images are only read: there is no place to change them");
        DmgHeader header = await DmgHeader.ReadAsync(context.File, cancellationToken).ConfigureAwait(false);
        var children = new List<BlockChild> { new("file", context.File) };
        DmgSegment[] segments = await OpenSegmentsAsync(context, header, children, cancellationToken)
            .ConfigureAwait(false);
        DmgTables tables = await ReadTablesAsync(segments, cancellationToken).ConfigureAwait(false);
        RequireLibraries(tables);
        long stated = header.Sectors * DmgLayout.SectorSize;
        var map = new DmgMap(tables, new DmgFork(segments), Math.Max(tables.End, stated));
        Warn(context, tables, stated);
        return new DmgDevice(map, tables, segments, children);
    }

    private static void Warn(OpenContext context, DmgTables tables, long stated)
    {
        if (tables.End != stated)
        {
            context.Warn($"the disk has {stated} bytes by its trailer and {tables.End} by its block tables; "
                + "the larger is used, and what is in no table reads as zeroes");
        }

        if (tables.Tables.Any(table => tables.CoveredBytes(table) < table.Length))
        {
            context.Warn("parts of the disk are in no block run and read as zeroes; 'check' tells more");
        }
    }

    private static async ValueTask<DmgSegment[]> OpenSegmentsAsync(
        OpenContext context, DmgHeader header, List<BlockChild> children, CancellationToken cancellationToken)
    {
        if (header.SegmentNumber != 1)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument,
                $"this is segment {header.SegmentNumber} of {header.SegmentCount} of an image")
            {
                Hint = "Open the first one; the others are found beside it.",
            };
        }

        var segments = new DmgSegment[header.SegmentCount];
        segments[0] = new DmgSegment(context.File, header);
        string name = Path.GetFileNameWithoutExtension(context.File.Name);
        long end = header.RunningOffset + header.DataLength;
        for (int i = 1; i < segments.Length; i++)
        {
            string role = string.Create(CultureInfo.InvariantCulture, $"segments.{i + 1}");
            string reference = string.Create(CultureInfo.InvariantCulture, $"{name}.{i + 1:000}.dmgpart");
            BlockNode? node = await context.OpenChildAsync(role, reference, "raw", writable: false, cancellationToken)
                .ConfigureAwait(false);
            if (node is null)
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument, $"the image cannot be read without segment {i + 1}");
            }

            DmgHeader next = await DmgHeader.ReadAsync(node, cancellationToken).ConfigureAwait(false);
            if (next.SegmentId != header.SegmentId || next.SegmentCount != segments.Length
                || next.SegmentNumber != i + 1 || next.RunningOffset != end)
            {
                throw BlockException.Invalid(
                    $"'{node.Name}' is not the segment that belongs here", null,
                    $"segment {next.SegmentNumber} of {next.SegmentCount} at 0x{next.RunningOffset:x}",
                    $"{i + 1} of {segments.Length} at 0x{end:x}, of the same image");
            }

            end += next.DataLength;
            segments[i] = new DmgSegment(node, next);
            children.Add(new BlockChild(role, node));
        }

        return segments;
    }

    /// <summary>From the first segment with a property list, else from the first with a resource fork.</summary>
    private static async ValueTask<DmgTables> ReadTablesAsync(
        DmgSegment[] segments, CancellationToken cancellationToken)
    {
        var tables = new DmgTables();
        if (segments.FirstOrDefault(segment => segment.Header.PropertyLength > 0) is { } listed)
        {
            DmgHeader header = listed.Header;
            byte[] xml = new byte[header.PropertyLength];
            await listed.Node.ReadAsync(header.PropertyOffset, xml, cancellationToken).ConfigureAwait(false);
            DmgPropertyList.Read(xml, header.PropertyOffset, tables);
        }
        else if (segments.FirstOrDefault(segment => segment.Header.ResourceLength > 0) is { } forked)
        {
            DmgHeader header = forked.Header;
            byte[] fork = new byte[header.ResourceLength];
            await forked.Node.ReadAsync(header.ResourceOffset, fork, cancellationToken).ConfigureAwait(false);
            DmgResourceFork.Read(fork, header.ResourceOffset, tables);
        }

        return tables.Tables.Count > 0 ? tables : throw BlockException.Invalid("the image has no block tables");
    }

    private static void RequireLibraries(DmgTables tables)
    {
        bool bzip2 = false;
        bool lzma = false;
        foreach (DmgRun run in tables.Runs)
        {
            bzip2 |= run.Type == DmgRunType.Bzip2;
            lzma |= run.Type == DmgRunType.Lzma;
        }

        if (bzip2)
        {
            Bzip2Decoder.RequireLibrary();
        }

        if (lzma)
        {
            XzDecoder.RequireLibrary();
        }
    }
}
