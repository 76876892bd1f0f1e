using System.Globalization;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// Gives the entries of one folder their names on the disk: names that are good first, so that none of them gives way to
/// one that had to be changed; then those that fit 8.3, then the made-up short names.
/// </summary>
/// <param name="table">Where the entries are.</param>
/// <param name="report">Where to say what is left out or changed.</param>
internal sealed class FolderNames(EntryTable table, ScanReport report)
{
    private const string LeftOut = "left out";
    private readonly Dictionary<string, int> _folded = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _copies = new(StringComparer.Ordinal);
    private readonly List<(int Entry, string Name, string Why)> _bad = [];
    private readonly List<int> _made = [];

    /// <summary>
    /// Names the entries from <paramref name="first"/> to the end of the table. What has no name and must go is added to
    /// <paramref name="leftOut"/>.
    /// </summary>
    public void Assign(int first, List<int> leftOut)
    {
        _folded.Clear();
        _copies.Clear();
        _bad.Clear();
        _made.Clear();
        var shortNames = new ShortNameTable();
        for (int entry = first; entry < table.Count; entry++)
        {
            bool isText = EntryTable.TryDecode(table.HostNameOf(entry), out string name);
            NameProblem problem = isText ? NameRules.Check(name) : NameProblem.NotUnicode;
            if (problem != NameProblem.None)
            {
                _bad.Add((entry, name, NameRules.Describe(problem)));
            }
            else if (!_folded.TryAdd(NameRules.Fold(name), entry))
            {
                string other = table.LongNameOf(_folded[NameRules.Fold(name)]);
                _bad.Add((entry, name, $"differs from '{ScanReport.Printable(other)}' only in case"));
            }
            else
            {
                TakeShortName(entry, name, shortNames);
            }
        }

        foreach ((int entry, string name, string why) in _bad)
        {
            Repair(entry, name, why, shortNames, leftOut);
        }

        foreach (int entry in _made)
        {
            table[entry].ShortName = shortNames.MakeUp(table.LongNameOf(entry));
        }
    }

    private void TakeShortName(int entry, string name, ShortNameTable shortNames)
    {
        ref EntryRecord record = ref table[entry];
        record.LongUnits = (byte)name.Length;
        ShortNameFit fit = ShortName.Fit(name, out ShortName83 shortName, out NameCase nameCase);
        if (fit == ShortNameFit.Lossy || !shortNames.TryTake(shortName))
        {
            _made.Add(entry);
            return;
        }

        record.ShortName = shortName;
        if (fit == ShortNameFit.Exact)
        {
            record.Case = nameCase;
            record.LongUnits = 0;
        }

        if (NameRules.IsDeviceName(name))
        {
            report.Note(table.PathOf(entry), "is the name of a device on DOS and Windows, which cannot open it");
        }
    }

    private void Repair(int entry, string name, string why, ShortNameTable shortNames, List<int> leftOut)
    {
        if (report.Policy != UnsupportedPolicy.Rename)
        {
            report.Problem(table.PathOf(entry), why, LeftOut);
            leftOut.Add(entry);
            return;
        }

        string repaired = NameRules.Repair(name);
        string candidate = repaired;
        string folded = NameRules.Fold(repaired);
        int number = _copies.GetValueOrDefault(folded, 1);
        while (!_folded.TryAdd(NameRules.Fold(candidate), entry))
        {
            number++;
            candidate = NameRules.AddSuffix(repaired, $" ({number.ToString(CultureInfo.InvariantCulture)})");
        }

        _copies[folded] = number;
        table.Rename(entry, candidate);
        report.Problem(table.PathOf(entry), why, $"shown as '{candidate}'");
        TakeShortName(entry, candidate, shortNames);
    }
}
