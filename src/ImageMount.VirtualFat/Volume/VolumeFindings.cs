using System.Globalization;
using System.Text;

namespace ImageMount.VirtualFat.Volume;

/// <summary>What kind of thing is wrong with a volume.</summary>
internal enum FindingKind
{
    /// <summary>The boot sector, or the file system as a whole.</summary>
    Geometry,

    /// <summary>Somebody has it mounted, or did not unmount it properly.</summary>
    Dirty,

    /// <summary>The copies of the FAT differ.</summary>
    FatsDiffer,

    /// <summary>A chain of clusters: a loop, one cluster of two chains, a free, bad or impossible cluster, the wrong
    /// length.</summary>
    Chain,

    /// <summary>Clusters that are in use and belong to nothing.</summary>
    Lost,

    /// <summary>An entry of a folder.</summary>
    Entry,

    /// <summary>A name.</summary>
    Name,

    /// <summary>More of something than this program accepts.</summary>
    Limit,
}

/// <summary>One thing that is wrong with a volume.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="What">In words.</param>
/// <param name="Path">Path of the file or folder, from the root; null when it belongs to none.</param>
/// <param name="Offset">Byte of the disk where it was seen, or null.</param>
internal readonly record struct VolumeFinding(FindingKind Kind, string What, string? Path, long? Offset)
{
    /// <inheritdoc/>
    public override string ToString()
    {
        var text = new StringBuilder();
        if (Path is not null)
        {
            text.Append(Path.Length == 0 ? "/" : Path).Append(": ");
        }

        text.Append(What);
        if (Offset is { } offset)
        {
            text.Append(CultureInfo.InvariantCulture, $" (at 0x{offset:x} of the disk)");
        }

        return text.ToString();
    }
}

/// <summary>What is wrong with a volume: the first findings, and how many there are.</summary>
internal sealed class VolumeFindings
{
    /// <summary>Findings that are kept in words.</summary>
    public const int MaxKept = 50;

    private readonly List<VolumeFinding> _kept = [];

    /// <summary>The first ones.</summary>
    public IReadOnlyList<VolumeFinding> Kept => _kept;

    /// <summary>How many there are.</summary>
    public long Count { get; private set; }

    /// <summary>Notes one.</summary>
    public void Add(FindingKind kind, string what, string? path = null, long? offset = null)
    {
        Count++;
        if (_kept.Count < MaxKept)
        {
            _kept.Add(new VolumeFinding(kind, what, path, offset));
        }
    }

    /// <summary>The first finding and the number of the others, for one line.</summary>
    public override string ToString() => Count switch
    {
        0 => "nothing is wrong",
        1 => _kept[0].ToString(),
        _ => string.Create(CultureInfo.InvariantCulture, $"{_kept[0]}, and {Count - 1} more"),
    };
}
