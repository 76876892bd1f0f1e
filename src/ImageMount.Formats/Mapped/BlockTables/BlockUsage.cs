using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Mapped.BlockTables;

/// <summary>
/// Which places of the file a flat table uses: the base of the check, and of writing, since who writes in place must
/// know that no two units share one. Room that no entry names is a leak only to formats that count it.
/// </summary>
internal sealed class BlockUsage
{
    private readonly BlockTable _table;
    private readonly BlockTableLayout _layout;
    private readonly CheckReport? _report;
    private readonly List<uint> _entries = [];
    private long _end;

    private BlockUsage(BlockTable table, CheckReport? report)
    {
        _table = table;
        _layout = table.Layout;
        _report = report;
    }

    /// <summary>Entries that name a place, in order, each as often as it stands in the table.</summary>
    public IReadOnlyList<uint> Entries => _entries;

    /// <summary>Units stored.</summary>
    public int Count => _entries.Count;

    /// <summary>Units that do not follow their predecessor.</summary>
    public long Fragments { get; private set; }

    /// <summary>End of the unit that lies last in the file; 0 when there is none.</summary>
    public long End => _end;

    /// <summary>The first thing that is wrong, or null.</summary>
    public string? Damage { get; private set; }

    /// <summary>Reads the whole table, through its cache.</summary>
    /// <param name="table">The table.</param>
    /// <param name="report">Where every fault goes; null to look for the first only.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static async ValueTask<BlockUsage> ScanAsync(
        BlockTable table, CheckReport? report, CancellationToken cancellationToken)
    {
        var usage = new BlockUsage(table, report);
        await usage.ScanAsync(cancellationToken).ConfigureAwait(false);
        if (report is not null)
        {
            report.TotalClusters = (report.TotalClusters ?? 0) + table.Layout.Units;
            report.AllocatedClusters = (report.AllocatedClusters ?? 0) + usage.Count;
            report.FragmentedClusters = (report.FragmentedClusters ?? 0) + usage.Fragments;
            report.ImageEndOffset = Math.Max(report.ImageEndOffset ?? 0, usage.End);
        }

        return usage;
    }

    /// <summary>Refuses to write what is damaged.</summary>
    public void RequireSound()
    {
        if (Damage is not null)
        {
            throw new BlockException(
                BlockErrorKind.InvalidData, $"the image is damaged and cannot be written: {Damage}")
            {
                Hint = "Open it read-only (--read-only), and save what can be saved.",
            };
        }
    }

    private async ValueTask ScanAsync(CancellationToken cancellationToken)
    {
        uint expected = 0;
        for (long first = 0; first < _layout.Entries; first += BlockTable.LeafEntries)
        {
            cancellationToken.ThrowIfCancellationRequested();
            LeafTable leaf = await _table.GetLeafAsync(first, cancellationToken).ConfigureAwait(false);
            for (int i = 0; i < leaf.Entries.Length; i++)
            {
                uint entry = leaf[i];
                if (_layout.KindOf(entry) == RunKind.Data)
                {
                    CheckPlace(first + i, entry);
                    Fragments += Count > 0 && entry != expected ? 1 : 0;
                    expected = entry + _layout.Step;
                    _entries.Add(entry);
                }
            }

            if (Damage is not null && _report is null)
            {
                return;
            }
        }

        _entries.Sort();
        for (int i = 1; i < _entries.Count; i++)
        {
            if (_entries[i] - _entries[i - 1] < _layout.Step)
            {
                Fault($"two {_layout.UnitName}s share the place ", _layout.PlaceOf(_entries[i]));
            }
        }
    }

    private void CheckPlace(long unit, uint entry)
    {
        // The last unit of a disk may be cut where the disk ends; what the table has after that is kept all the same.
        long inside = Math.Clamp(_layout.Length - (unit * _layout.UnitSize), 1, _layout.UnitSize);
        long place = _layout.PlaceOf(entry);
        if (entry > _layout.MaxEntry || place + _layout.LeadSize + inside > _layout.Node.Length)
        {
            Fault($"{_layout.UnitName} {unit} lies outside the file: ", place);
        }
        else if (_layout.IsMetadata(place, _layout.Footprint))
        {
            Fault($"{_layout.UnitName} {unit} lies over the metadata: ", place);
        }
        else
        {
            _end = Math.Max(_end, place + _layout.Footprint);
        }
    }

    private void Fault(string what, long place)
    {
        // There may be millions: no text for each.
        if (Damage is null || _report is { Problems.Count: < CheckReport.MaxProblems })
        {
            string text = what + "0x" + place.ToString("x", CultureInfo.InvariantCulture);
            Damage ??= text;
            _report?.Corruption(text);
        }
        else if (_report is not null)
        {
            _report.Corruptions++;
        }
    }
}
