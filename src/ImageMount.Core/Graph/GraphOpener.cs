using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>Opens images: a source or options in, a graph of nodes out.</summary>
/// <param name="registry">The drivers there are.</param>
public sealed class GraphOpener(DriverRegistry registry)
{
    /// <summary>Opens a source as <see cref="SourceParser"/> understands it.</summary>
    public ValueTask<Graph> OpenAsync(string source, OpenFlags flags, CancellationToken cancellationToken = default) =>
        OpenAsync(new SourceParser(registry).Parse(source), flags, cancellationToken);

    /// <summary>
    /// Opens what options describe. Failures are <see cref="BlockException"/>; nothing stays open then.
    /// </summary>
    public async ValueTask<Graph> OpenAsync(
        OptionMap image, OpenFlags flags, CancellationToken cancellationToken = default)
    {
        var build = new GraphBuild(registry);
        OpenedNode root = await build
            .OpenAsync(new NodeRequest { Options = image, Flags = flags }, cancellationToken)
            .ConfigureAwait(false);
        return new Graph(build, root);
    }

    /// <summary>
    /// Opens a format or filter over a node that exists already. The graph does not close that node: whoever made it
    /// does, after the graph.
    /// </summary>
    /// <param name="driver">Name of a format or filter; null to probe.</param>
    /// <param name="file">The node with the image's bytes.</param>
    /// <param name="flags">How to open.</param>
    /// <param name="options">More options of the new node, or null.</param>
    /// <param name="location">Path or URI from which relative references start, or null.</param>
    /// <param name="cancellationToken">Stops opening.</param>
    public async ValueTask<Graph> OpenOverAsync(
        string? driver, BlockNode file, OpenFlags flags, OptionMap? options = null, string? location = null,
        CancellationToken cancellationToken = default)
    {
        OptionMap image = options?.Clone() ?? new OptionMap();
        if (driver is not null)
        {
            image.Set("driver", driver);
        }

        var build = new GraphBuild(registry);
        var below = new OpenedNode(file, new ForeignDriver(file.Driver), new object(), null, location, null, null);
        OpenedNode root = await build
            .OpenAsync(new NodeRequest { Options = image, Flags = flags, File = below }, cancellationToken)
            .ConfigureAwait(false);
        return new Graph(build, root);
    }

    /// <summary>Stands for the driver of a node that the graph did not open.</summary>
    private sealed class ForeignDriver(string name) : BlockDriver
    {
        public override string Name => name;

        public override DriverKind Kind => DriverKind.Protocol;

        public override string Summary => "A node opened elsewhere.";

        public override Type OptionsType => typeof(object);

        public override ValueTask<BlockDevice> OpenAsync(
            OpenContext context, object options, CancellationToken cancellationToken) =>
            throw new InvalidOperationException("opened elsewhere");
    }
}
