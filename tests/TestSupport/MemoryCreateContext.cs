using ImageMount.Core.Secrets;

namespace ImageMount.TestSupport;

/// <summary>Makes an image in memory through its driver's creator.</summary>
public sealed class MemoryCreateContext : CreateContext
{
    private readonly MemoryDevice _device = new(0)
    {
        Declared = BlockCapabilities.Write | BlockCapabilities.Resize | BlockCapabilities.Zero,
    };

    /// <summary>Makes the context; the file is empty.</summary>
    public MemoryCreateContext() => File = new BlockNode("new", "test", _device);

    /// <inheritdoc/>
    public override BlockNode File { get; }

    /// <inheritdoc/>
    public override string FileName => "new";

    /// <inheritdoc/>
    public override SecretStore Secrets { get; } = new();

    /// <summary>What the creator warned of.</summary>
    public List<string> Warnings { get; } = [];

    /// <summary>Makes an image; options are an instance of the creator's record.</summary>
    public static async Task<byte[]> MakeAsync(string format, object options)
    {
        var context = new MemoryCreateContext();
        await TestGraph.Registry.Get(format).Creator!.CreateAsync(context, options, CancellationToken.None);
        return context._device.Content;
    }

    /// <inheritdoc/>
    public override ValueTask<BlockNode> CreateSiblingAsync(string name, CancellationToken cancellationToken) =>
        throw new NotSupportedException("there is one file in memory only");

    /// <inheritdoc/>
    public override ValueTask<BlockNode> OpenParentAsync(
        string reference, string? format, CancellationToken cancellationToken) =>
        throw new NotSupportedException("there is one file in memory only");

    /// <inheritdoc/>
    public override string ResolveReference(string reference) => reference;

    /// <inheritdoc/>
    public override void Warn(string message) => Warnings.Add(message);
}
