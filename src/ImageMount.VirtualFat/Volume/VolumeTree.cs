using System.Text;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Volume;

/// <summary>Clusters that follow one another, on the disk and in a chain.</summary>
/// <param name="First">Number of the first one.</param>
/// <param name="Count">How many.</param>
internal readonly record struct ClusterRun(uint First, uint Count);

/// <summary>A file or folder of a volume.</summary>
internal sealed class VolumeNode
{
    /// <summary>Index of the folder it is in; -1 for the root.</summary>
    public required int Parent { get; init; }

    /// <summary>True for a folder.</summary>
    public required bool IsDirectory { get; init; }

    /// <summary>The long name, or the short one as programs show it; empty for the root.</summary>
    public required string Name { get; init; }

    /// <summary>The short name.</summary>
    public ShortName83 ShortName { get; init; }

    /// <summary>DIR_Attr.</summary>
    public FatAttributes Attributes { get; init; }

    /// <summary>The times.</summary>
    public FatTimestamps Times { get; init; }

    /// <summary>The first cluster; 0 when there is none.</summary>
    public uint FirstCluster { get; init; }

    /// <summary>Bytes of a file; 0 for a folder.</summary>
    public uint Size { get; init; }

    /// <summary>Its clusters in order.</summary>
    public ClusterRun[] Runs { get; set; } = [];

    /// <summary>How many folders deep; the root has 0.</summary>
    public int Depth { get; init; }
}

/// <summary>Everything that a consistent volume holds. Entry 0 is the root; parents stand before their
/// children.</summary>
/// <param name="Geometry">Where things are.</param>
/// <param name="Nodes">Files and folders.</param>
/// <param name="Label">Label in the root folder, or null.</param>
internal sealed record VolumeTree(VolumeGeometry Geometry, IReadOnlyList<VolumeNode> Nodes, string? Label)
{
    /// <summary>Path from the root, without a slash at the beginning; empty for the root.</summary>
    public string PathOf(int node) => PathOf(Nodes, node);

    internal static string PathOf(IReadOnlyList<VolumeNode> nodes, int node)
    {
        var names = new Stack<string>();
        for (int at = node; at > 0; at = nodes[at].Parent)
        {
            names.Push(nodes[at].Name);
        }

        return new StringBuilder().AppendJoin('/', names).ToString();
    }
}

/// <summary>What reading a volume gave: the tree when nothing is wrong, else the findings.</summary>
/// <param name="Tree">Null when something is wrong.</param>
/// <param name="Findings">What is.</param>
internal sealed record VolumeReading(VolumeTree? Tree, VolumeFindings Findings)
{
    /// <summary>True when nothing is wrong.</summary>
    public bool IsConsistent => Tree is not null;
}
