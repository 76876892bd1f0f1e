using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Qcow2;

/// <summary>Makes qcow2 images for the graph: the data file beside the image, then <see cref="Qcow2Creator"/>.</summary>
internal sealed class Qcow2ImageCreator : ImageCreator<Qcow2CreateOptions>
{
    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, Qcow2CreateOptions options, CancellationToken cancellationToken)
    {
        BlockNode? dataFile = options.DataFile is null ? null
            : await context.CreateSiblingAsync(options.DataFile, cancellationToken).ConfigureAwait(false);
        Qcow2NewEncryption? encryption = Qcow2NewEncryption.Make(options, context);
        await Qcow2Creator.CreateAsync(context.File, options, dataFile, cancellationToken, encryption)
            .ConfigureAwait(false);
    }
}
