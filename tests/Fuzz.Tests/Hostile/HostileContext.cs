using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Opens an image from memory; what it refers to is found among its companions, or not at all.</summary>
public sealed class HostileContext(
    SeedImage image, byte[] bytes, bool writable, Core.Secrets.SecretStore? secrets = null) : OpenContext
{
    private const long MaxGrowth = 64 << 20;
    private readonly List<BlockNode> _children = [];
    private BlockNode? _file;

    public override OpenFlags Flags { get; } = new()
    {
        Writable = writable,
        Locking = LockingMode.Off,
        Secrets = secrets ?? LuksImages.Secrets(),
    };

    public override string NodeName => image.Name;

    public override BlockNode File => _file ??= MakeNode(
        image.Name, image.Role is null ? bytes : (byte[])image.File.Clone(), writable);

    /// <summary>Warnings are for people; here they are only counted.</summary>
    public int Warnings { get; private set; }

    public override ValueTask<BlockNode?> OpenChildAsync(
        string role, string? reference, string? driver, bool childWritable, CancellationToken cancellationToken)
    {
        if (role == image.Role)
        {
            return new(MakeNode(role, bytes, childWritable));
        }

        bool isGiven = HasChildOptions(role);
        if (isGiven && image.GivenParent is null)
        {
            return new((BlockNode?)null);
        }

        if (_children.Count >= GraphLimits.MaxNodes)
        {
            throw BlockException.Limit("too many nodes", _children.Count + 1, GraphLimits.MaxNodes);
        }

        if (isGiven)
        {
            return new(MakeNode(role, image.GivenParent!, isWritable: false));
        }

        if (reference is null || !image.Companions.TryGetValue(reference, out byte[]? content))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"no such file: {reference}");
        }

        return new(MakeNode(reference, (byte[])content.Clone(), childWritable));
    }

    public override bool HasChildOptions(string role) => role == image.Role
        || (role == "backing" && (image.ParentLeftOut || image.GivenParent is not null));

    public override bool Exists(string reference) => image.Companions.ContainsKey(reference);

    public override string ResolveReference(string reference) => reference;

    public override void Warn(string message) => Warnings++;

    public async ValueTask CloseAllAsync()
    {
        foreach (BlockNode child in _children)
        {
            await child.CloseAsync();
        }
    }

    private BlockNode MakeNode(string name, byte[] content, bool isWritable)
    {
        var node = new BlockNode(
            name, "memory", new MemoryDisk(content, content.Length + MaxGrowth), new NodeOptions { ReadOnly = !isWritable });
        _children.Add(node);
        return node;
    }
}
