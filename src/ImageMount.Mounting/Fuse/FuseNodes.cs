using ImageMount.Fuse;
using ImageMount.Interop;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// What the kernel is told of the tree's nodes: entries and attributes, and what chmod and its like changed.
/// </summary>
internal sealed class FuseNodes(MountTree tree, FuseMountOptions options)
{
    // Names never change while mounted; sizes and allocation of a disk may.
    private static readonly TimeSpan Forever = TimeSpan.FromDays(1);
    private static readonly TimeSpan DiskValidity = TimeSpan.FromSeconds(1);

    /// <summary>Space that the image takes.</summary>
    public AllocatedSize Allocated { get; } = new(tree.Disk.Node);

    public FuseEntry EntryOf(TreeNode node) => new()
    {
        Inode = node.Id,
        Validity = Forever,
        Attributes = AttributesOf(node),
    };

    public static FuseEntry DotOf(TreeDirectory directory) => new()
    {
        Attributes = new FuseAttributes { Inode = directory.Id, Mode = FuseMode.S_IFDIR },
    };

    public FuseAttributes AttributesOf(TreeNode node)
    {
        NodeState state = StateOf(node);
        return node switch
        {
            DiskFile file => state.Attributes(file, file.Length, Allocated.BlocksOf(file), DiskValidity),
            _ => state.Attributes(node, 0, 0, Forever),
        };
    }

    public NodeState StateOf(TreeNode node) =>
        (NodeState?)Volatile.Read(ref node.HostState) ?? AddState(node);

    private NodeState AddState(TreeNode node)
    {
        NodeState state = NewState(node);
        return (NodeState?)Interlocked.CompareExchange(ref node.HostState, state, null) ?? state;
    }

    private NodeState NewState(TreeNode node)
    {
        const uint WriteBits = 0x92; // 0222
        const uint ReadBits = 0x124; // 0444
        uint permissions = options.Mode ?? (options.AllowOther ? 0x1A4u : 0x180u); // 0644, 0600
        uint mode = node switch
        {
            // Who may read may search.
            TreeDirectory => FuseMode.S_IFDIR | (permissions & ~WriteBits) | (permissions & ReadBits) >> 2,
            DiskFile { CanWrite: true } => FuseMode.S_IFREG | permissions,
            _ => FuseMode.S_IFREG | (permissions & ~WriteBits),
        };
        return new NodeState(
            mode, options.Uid ?? SysUser.Id, options.Gid ?? SysUser.GroupId, FuseTimestamp.From(options.Time));
    }
}
