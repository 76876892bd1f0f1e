using System.Globalization;
using System.Text;
using ImageMount.Core.Info;

namespace ImageMount.Mounting.Tree;

/// <summary>
/// Directory names for snapshots. An image may call its snapshots anything: "", "..", "a/b", the same name twice. What
/// cannot be a file name becomes '_', long names are cut, and names that are taken get their id, then a number, added.
/// </summary>
internal static class SnapshotNames
{
    private const int MaxBytes = 200;

    /// <summary>One name each, all different, in the order given.</summary>
    public static IReadOnlyList<string> Make(IReadOnlyList<SnapshotInfo> snapshots)
    {
        var taken = new HashSet<string>(StringComparer.Ordinal);
        var names = new List<string>(snapshots.Count);
        foreach (SnapshotInfo snapshot in snapshots)
        {
            string name = Clean(snapshot.Name.Length != 0 ? snapshot.Name : snapshot.Id);
            string candidate = name;
            if (!taken.Add(candidate))
            {
                candidate = $"{name}.{Clean(snapshot.Id)}";
                for (int n = 2; !taken.Add(candidate); n++)
                {
                    candidate = string.Create(CultureInfo.InvariantCulture, $"{name}.{n}");
                }
            }

            names.Add(candidate);
        }

        return names;
    }

    private static string Clean(string name)
    {
        var clean = new StringBuilder();
        int bytes = 0;
        foreach (Rune rune in name.EnumerateRunes())
        {
            Rune kept = rune.Value is '/' or '\\' || Rune.IsControl(rune) ? new Rune('_') : rune;
            if (bytes + kept.Utf8SequenceLength > MaxBytes)
            {
                break;
            }

            bytes += kept.Utf8SequenceLength;
            clean.Append(kept.ToString());
        }

        return clean.ToString() switch
        {
            "" => "_",
            "." => "_.",
            ".." => "_..",
            string text => text,
        };
    }
}
