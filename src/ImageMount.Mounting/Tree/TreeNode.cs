using System.Text;

namespace ImageMount.Mounting.Tree;

/// <summary>A file or directory that a mount shows. Knows nothing of FUSE or WinFsp: hosts translate.</summary>
/// <remarks>Nodes are numbered once and live as long as the mount, so hosts need no reference counts.</remarks>
public abstract class TreeNode
{
    private protected TreeNode(string name, TreeDirectory? parent)
    {
        Name = name;
        Utf8Name = Encoding.UTF8.GetBytes(name);
        Parent = parent;
    }

    /// <summary>
    /// Number of the node: 1 is the root, the rest follow without gaps. 0 until the tree has adopted it.
    /// </summary>
    public ulong Id { get; internal set; }

    /// <summary>Name in its directory; empty for the root.</summary>
    public string Name { get; }

    /// <summary><see cref="Name"/> in UTF-8, at most 255 bytes.</summary>
    public ReadOnlyMemory<byte> Utf8Name { get; }

    /// <summary>The directory it is in; null for the root.</summary>
    public TreeDirectory? Parent { get; }

    /// <summary>What a host keeps with the node; the tree does not touch it.</summary>
    internal object? HostState;

    /// <summary>Path from the root, for messages: "snapshots/before/p1"; "." for the root.</summary>
    public string Path
    {
        get
        {
            var names = new List<string>();
            for (TreeNode? node = this; node?.Parent is not null; node = node.Parent)
            {
                names.Insert(0, node.Name);
            }

            return names.Count == 0 ? "." : string.Join('/', names);
        }
    }
}
