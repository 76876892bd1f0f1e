using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Dmg;

/// <summary>A run of sectors that is stored in one way.</summary>
/// <param name="Start">First guest byte.</param>
/// <param name="Length">Guest bytes.</param>
/// <param name="Offset">Where it is stored, bytes in the data fork of the whole image.</param>
/// <param name="StoredLength">Bytes there, when it is compressed.</param>
/// <param name="Type">How it is stored.</param>
internal readonly record struct DmgRun(long Start, long Length, long Offset, int StoredLength, DmgRunType Type)
{
    /// <summary>First guest byte after it.</summary>
    public long End => Start + Length;

    /// <summary>True when nothing is stored for it.</summary>
    public bool IsZero => Type is DmgRunType.Zero or DmgRunType.Ignore;

    /// <summary>True when it has to be decoded as a whole.</summary>
    public bool IsCompressed => Type >= DmgRunType.Adc;
}

/// <summary>A table of runs: a partition, or a gap between partitions.</summary>
/// <param name="Name">As the image calls it.</param>
/// <param name="Start">First guest byte.</param>
/// <param name="Length">Guest bytes by the table's own word.</param>
/// <param name="Checksum">Of its runs in the order of the table, ignored ones left out.</param>
/// <param name="FirstRun">Index of its first run.</param>
/// <param name="RunCount">Number of its runs.</param>
internal sealed record DmgTable(
    string Name, long Start, long Length, DmgChecksum Checksum, int FirstRun, int RunCount);

/// <summary>All tables of an image, in its order.</summary>
internal sealed class DmgTables
{
    private readonly List<DmgTable> _tables = [];
    private readonly List<DmgRun> _runs = [];

    /// <summary>The tables.</summary>
    public IReadOnlyList<DmgTable> Tables => _tables;

    /// <summary>The runs of all tables, table by table, as they are stored.</summary>
    public ReadOnlySpan<DmgRun> Runs => CollectionsMarshal.AsSpan(_runs);

    /// <summary>First guest byte after all runs.</summary>
    public long End { get; private set; }

    /// <summary>Bytes of a table's own range that its runs cover.</summary>
    public long CoveredBytes(DmgTable table)
    {
        long covered = 0;
        long end = table.Start + table.Length;
        foreach (DmgRun run in Runs.Slice(table.FirstRun, table.RunCount))
        {
            covered += Math.Max(0, Math.Min(run.End, end) - Math.Max(run.Start, table.Start));
        }

        return covered;
    }

    /// <summary>Adds a table from its stored form.</summary>
    /// <param name="name">What the image calls it.</param>
    /// <param name="stored">The "mish" structure.</param>
    public void Add(string name, ReadOnlySpan<byte> stored)
    {
        if (_tables.Count == DmgLayout.MaxTables)
        {
            throw BlockException.Limit("the image has too many tables", _tables.Count + 1, DmgLayout.MaxTables);
        }

        name = Clean(name);
        var reader = new SpanReader(stored);
        if (!reader.TryRead(out DmgTableHeader header) || header.Magic != DmgLayout.TableMagic)
        {
            throw Damaged(name, "it has no header", "0 bytes", "'mish'");
        }

        if (header.Version != 1)
        {
            throw BlockException.Unsupported($"version {header.Version} of the block table '{name}' (supported: 1)");
        }

        if (header.FirstSector > DmgLayout.MaxSectors || header.SectorCount > DmgLayout.MaxSectors - header.FirstSector)
        {
            throw Damaged(name, "it lies outside any disk",
                $"{header.SectorCount} sectors from {header.FirstSector} on", $"at most {DmgLayout.MaxSectors}");
        }

        if (header.RunCount > reader.Remaining / DmgLayout.RunSize)
        {
            throw Damaged(name, "it is cut off",
                $"{reader.Remaining} bytes", $"{header.RunCount} runs of {DmgLayout.RunSize} bytes");
        }

        if (header.RunCount > DmgLayout.MaxRuns - _runs.Count)
        {
            throw BlockException.Limit(
                "the image has too many block runs", _runs.Count + header.RunCount, DmgLayout.MaxRuns);
        }

        int first = _runs.Count;
        AddRuns(name, header, ref reader);
        _tables.Add(new DmgTable(
            name, (long)header.FirstSector.Value * DmgLayout.SectorSize,
            (long)header.SectorCount.Value * DmgLayout.SectorSize, DmgChecksum.From(header.Checksum), first,
            _runs.Count - first));
    }

    private static BlockException Damaged(string name, string how, string? found = null, string? expected = null) =>
        BlockException.Invalid($"the block table '{name}' is damaged: {how}", null, found, expected);

    private static string Clean(string name)
    {
        string kept = name.Length > DmgLayout.MaxName ? name[..DmgLayout.MaxName] : name;
        return string.Create(kept.Length, kept, static (shown, text) =>
        {
            for (int i = 0; i < shown.Length; i++)
            {
                shown[i] = char.IsControl(text[i]) ? '\uFFFD' : text[i];
            }
        });
    }

    private void AddRuns(string name, in DmgTableHeader header, ref SpanReader reader)
    {
        bool ended = false;
        for (uint i = 0; i < header.RunCount; i++)
        {
            reader.TryRead(out DmgStoredRun stored);
            var type = (DmgRunType)stored.Type.Value;
            if (type == DmgRunType.Terminator)
            {
                ended = true;
                continue;
            }

            if (type == DmgRunType.Comment || stored.SectorCount == 0)
            {
                continue;
            }

            if (ended)
            {
                throw Damaged(name, "there are runs after its end mark", $"run {i}");
            }

            DmgRun run = Convert(name, i, type, header, stored);
            End = Math.Max(End, run.End);
            _runs.Add(run);
        }
    }

    private static DmgRun Convert(
        string name, uint index, DmgRunType type, in DmgTableHeader header, in DmgStoredRun stored)
    {
        if (type is not (DmgRunType.Zero or DmgRunType.Raw or DmgRunType.Ignore
            or (>= DmgRunType.Adc and <= DmgRunType.Lzma)))
        {
            throw BlockException.Unsupported($"block runs of type 0x{(uint)type:x8} (in the table '{name}')");
        }

        ulong first = header.FirstSector;
        if (stored.FirstSector > DmgLayout.MaxSectors - first
            || stored.SectorCount > DmgLayout.MaxSectors - first - stored.FirstSector)
        {
            throw Damaged(name, $"run {index} lies outside any disk",
                $"{stored.SectorCount} sectors from {stored.FirstSector} on");
        }

        long start = (long)(first + stored.FirstSector) * DmgLayout.SectorSize;
        long length = (long)stored.SectorCount.Value * DmgLayout.SectorSize;
        if (type is DmgRunType.Zero or DmgRunType.Ignore)
        {
            return new DmgRun(start, length, 0, 0, type);
        }

        const ulong Most = long.MaxValue / 4;
        if (header.DataOffset > Most || stored.Offset > Most || stored.StoredLength > Most)
        {
            throw Damaged(
                name, $"run {index} is stored outside any file", $"{stored.StoredLength} bytes at {stored.Offset}");
        }

        long offset = (long)(header.DataOffset + stored.Offset);
        if (type == DmgRunType.Raw)
        {
            return (long)stored.StoredLength.Value == length
                ? new DmgRun(start, length, offset, 0, type)
                : throw Damaged(name, $"the length of raw run {index} is wrong",
                    $"{stored.StoredLength} bytes", $"{length} bytes");
        }

        if (length > DmgLayout.MaxUnit || stored.StoredLength > DmgLayout.MaxUnit)
        {
            throw BlockException.Limit(
                $"run {index} of the block table '{name}' is too large to be decoded as a whole",
                Math.Max(length, (long)stored.StoredLength.Value), DmgLayout.MaxUnit);
        }

        return new DmgRun(start, length, offset, (int)stored.StoredLength.Value, type);
    }
}
