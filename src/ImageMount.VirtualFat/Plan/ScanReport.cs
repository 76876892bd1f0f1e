using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// What a scan leaves out or changes, by path: counted, and the first of each kind kept. Notes are things that are no
/// files (links, devices); problems are files and names that FAT cannot hold.
/// </summary>
/// <param name="policy">What happens to problems.</param>
internal sealed class ScanReport(UnsupportedPolicy policy)
{
    /// <summary>How many of each kind are told by path.</summary>
    public const int MaxShown = 20;

    private const int MaxPath = 300;
    private readonly List<string> _notes = [];
    private readonly List<string> _problems = [];
    private long _noteCount;
    private long _problemCount;

    /// <summary>What happens to problems.</summary>
    public UnsupportedPolicy Policy => policy;

    /// <summary>Something that is no file, or needs no decision.</summary>
    public void Note(string path, string what) => Keep(_notes, ref _noteCount, path, what);

    /// <summary>Something that FAT cannot hold, and what became of it.</summary>
    public void Problem(string path, string what, string outcome = "left out") =>
        Keep(_problems, ref _problemCount, path, policy == UnsupportedPolicy.Fail ? what : $"{what}; {outcome}");

    /// <summary>Tells everything, or throws when there are problems that must not be.</summary>
    public void Finish(Action<string> warn)
    {
        if (policy == UnsupportedPolicy.Fail && _problemCount > 0)
        {
            string rest = _problemCount > _problems.Count ? $"; and {_problemCount - _problems.Count} more" : "";
            throw new BlockException(
                BlockErrorKind.NotSupported,
                $"FAT cannot hold everything that is in the folder: {string.Join("; ", _problems)}{rest}")
            {
                Hint = "With --fat-unsupported=skip they are left out, with rename they get other names.",
            };
        }

        Tell(_problems, _problemCount, "more files and names that FAT cannot hold", warn);
        Tell(_notes, _noteCount, "more things that are no files, or that others may not read", warn);
    }

    private static void Tell(List<string> list, long count, string what, Action<string> warn)
    {
        foreach (string line in list)
        {
            warn(line);
        }

        if (count > list.Count)
        {
            warn($"and {count - list.Count} {what}");
        }
    }

    private static void Keep(List<string> list, ref long count, string path, string what)
    {
        if (++count <= MaxShown)
        {
            list.Add($"'{Printable(path)}' {what}");
        }
    }

    /// <summary>A path for a message: what would move the cursor is made visible, and the middle of a long one cut out.
    /// </summary>
    public static string Printable(string path)
    {
        var shown = new StringBuilder(path.Length);
        foreach (char c in path.Length <= MaxPath ? path : $"{path[..(MaxPath / 2)]}…{path[^(MaxPath / 2)..]}")
        {
            shown.Append(char.IsControl(c) ? '\ufffd' : c);
        }

        return shown.ToString();
    }
}
