using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>
/// The part of a format driver that makes images. One instance per process, without state, reached through
/// <see cref="BlockDriver.Creator"/>; <see cref="ImageMaker"/> calls it.
/// </summary>
public abstract class ImageCreator
{
    /// <summary>
    /// The record that declares the options, named as <c>qemu-img create -o</c> names them. It has an option "size" (the
    /// virtual size in bytes); where it has "backing_file" too, the size may be left out and is then the parent's.
    /// </summary>
    public abstract Type OptionsType { get; }

    /// <summary>
    /// Makes an empty image in <see cref="CreateContext.File"/>, durable when the task completes. What makes it an
    /// image (the header's magic) is written last, so that what a crash leaves is not taken for one.
    /// </summary>
    public abstract ValueTask CreateAsync(CreateContext context, object options, CancellationToken cancellationToken);

    /// <summary>
    /// True when an image with these options can only be made whole, from a source that is read once from start to end
    /// (a stream of compressed units). <see cref="CreateAsync"/> refuses such options then.
    /// </summary>
    public virtual bool IsSequential(object options) => false;

    /// <summary>Makes an image that holds the bytes of <paramref name="source"/>; only for sequential options.</summary>
    public virtual ValueTask CreateFromAsync(
        CreateContext context, object options, BlockNode source, CancellationToken cancellationToken) =>
        throw new BlockException(BlockErrorKind.NotSupported, "this format is not written as a stream");
}

/// <summary>A creator with its options typed.</summary>
public abstract class ImageCreator<TOptions> : ImageCreator
    where TOptions : class, new()
{
    /// <inheritdoc/>
    public sealed override Type OptionsType => typeof(TOptions);

    /// <inheritdoc/>
    public sealed override ValueTask CreateAsync(
        CreateContext context, object options, CancellationToken cancellationToken) =>
        CreateAsync(context, (TOptions)options, cancellationToken);

    /// <inheritdoc/>
    public sealed override bool IsSequential(object options) => IsSequential((TOptions)options);

    /// <inheritdoc/>
    public sealed override ValueTask CreateFromAsync(
        CreateContext context, object options, BlockNode source, CancellationToken cancellationToken) =>
        CreateFromAsync(context, (TOptions)options, source, cancellationToken);

    /// <summary>Makes an empty image; failures are <see cref="BlockException"/>.</summary>
    protected abstract ValueTask CreateAsync(
        CreateContext context, TOptions options, CancellationToken cancellationToken);

    /// <summary>See <see cref="ImageCreator.IsSequential(object)"/>.</summary>
    protected virtual bool IsSequential(TOptions options) => false;

    /// <summary>See <see cref="ImageCreator.CreateFromAsync(CreateContext, object, BlockNode, CancellationToken)"/>.</summary>
    protected virtual ValueTask CreateFromAsync(
        CreateContext context, TOptions options, BlockNode source, CancellationToken cancellationToken) =>
        throw new BlockException(BlockErrorKind.NotSupported, "this format is not written as a stream");
}

/// <summary>What a creator may ask for. Everything it opens is closed, and on failure deleted, by the maker.</summary>
public abstract class CreateContext
{
    /// <summary>The new file: empty, writable, locked; grows with <see cref="BlockNode.TryResizeAsync"/>.</summary>
    public abstract BlockNode File { get; }

    /// <summary>Its name without folder, for descriptors that name themselves.</summary>
    public abstract string FileName { get; }

    /// <summary>Passphrases and keys.</summary>
    public abstract Secrets.SecretStore Secrets { get; }

    /// <summary>Makes another empty file in the folder of the first (an extent, a data file).</summary>
    public abstract ValueTask<BlockNode> CreateSiblingAsync(string name, CancellationToken cancellationToken);

    /// <summary>Opens the parent for reading, relative to the new image.</summary>
    /// <param name="reference">Path or URI as it will stand in the image.</param>
    /// <param name="format">Its format, or null to recognise it.</param>
    /// <param name="cancellationToken">Stops opening.</param>
    public abstract ValueTask<BlockNode> OpenParentAsync(
        string reference, string? format, CancellationToken cancellationToken);

    /// <summary>The absolute path on this host that a reference resolves to; the reference itself for URIs.</summary>
    public abstract string ResolveReference(string reference);

    /// <summary>Tells the user something that is not an error, once.</summary>
    public abstract void Warn(string message);
}
