using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Core.Graph;

/// <summary>
/// Makes images: binds the options, makes the file, lets the format's <see cref="ImageCreator"/> fill it, and removes
/// what it made when that fails. A file that is there already and not empty is replaced only on demand.
/// </summary>
/// <param name="registry">The drivers there are.</param>
public sealed class ImageMaker(DriverRegistry registry)
{
    private readonly GraphOpener _opener = new(registry);

    /// <summary>Makes an empty image.</summary>
    /// <param name="format">Name of the format.</param>
    /// <param name="target">Path or URI of the new file, or options of its protocol as json:{…}.</param>
    /// <param name="options">Options of the format's creator, "size" among them.</param>
    /// <param name="request">How.</param>
    /// <param name="cancellationToken">Stops it; what was made is removed.</param>
    public ValueTask CreateAsync(
        string format, string target, OptionMap options, CreateRequest request,
        CancellationToken cancellationToken = default) =>
        MakeAsync(
            format, target, options, request,
            static (creator, context, bound, _, token) => creator.IsSequential(bound)
                ? throw new BlockException(
                    BlockErrorKind.InvalidArgument, "an image with these options can only be made from another image")
                {
                    Hint = "Use 'imgmount convert'.",
                }
                : creator.CreateAsync(context, bound, token),
            null, cancellationToken);

    /// <summary>
    /// Makes an image from a source in one pass, for options of which <see cref="IsSequential"/> is true.
    /// </summary>
    public ValueTask CreateFromAsync(
        string format, string target, OptionMap options, BlockNode source, CreateRequest request,
        CancellationToken cancellationToken = default) =>
        MakeAsync(
            format, target, options, request,
            static (creator, context, bound, from, token) => creator.CreateFromAsync(context, bound, from!, token),
            source, cancellationToken);

    /// <summary>
    /// Makes an image and copies a source into it. An image that could not be completed is removed again.
    /// </summary>
    public ValueTask CreateAndCopyAsync(
        string format, string target, OptionMap options, BlockNode source, CreateRequest request,
        Action<long>? progress, CancellationToken cancellationToken = default) =>
        MakeAsync(
            format, target, options, request,
            async (creator, context, bound, _, token) =>
            {
                await creator.CreateAsync(context, bound, token).ConfigureAwait(false);
                await ((MakerContext)context).CloseFilesAsync().ConfigureAwait(false);
                var image = new OptionMap();
                image.Set("driver", format);
                image.Set("file", new SourceParser(registry).ParseFile(target));
                ForwardSecrets(format, options, image);
                await using Graph made = await _opener.OpenAsync(image, request.Flags with { Writable = true }, token)
                    .ConfigureAwait(false);
                if (made.Root.Length < source.Length)
                {
                    throw new BlockException(BlockErrorKind.InvalidArgument, "the new image is smaller than the source")
                    {
                        Found = $"{made.Root.Length} bytes",
                        Expected = $"at least {source.Length}",
                    };
                }

                await BlockCopier.CopyAsync(source, made.Root, progress, token).ConfigureAwait(false);
            },
            null, cancellationToken);

    /// <summary>What the new image was locked with opens it.</summary>
    private void ForwardSecrets(string format, OptionMap from, OptionMap to)
    {
        OptionSchema known = OptionSchema.Of(registry.Get(format).OptionsType);
        foreach (string key in (string[])["key-secret", "encrypt.key-secret"])
        {
            if (from.Find(key) is string id && known.TryFind(key, out _))
            {
                to.SetPath(key, id);
            }
        }
    }

    /// <summary>Whether an image with these options can only be made whole.</summary>
    public bool IsSequential(string format, OptionMap options) =>
        CreatorOf(format).IsSequential(Bind(format, options));

    /// <summary>The creator of a format; NotSupported where it makes no images.</summary>
    public ImageCreator CreatorOf(string format) => registry.Get(format).Creator
        ?? throw new BlockException(BlockErrorKind.NotSupported, $"images of format '{format}' cannot be made")
        {
            Hint = $"Formats that can be made: {string.Join(", ", Makeable())}.",
        };

    private IEnumerable<string> Makeable() =>
        registry.Drivers.Where(driver => driver.Creator is not null).Select(driver => driver.Name).Order(StringComparer.Ordinal);

    private object Bind(string format, OptionMap options) => OptionBinder.Bind(
        options, $"making an image of format '{format}'", "", [CreatorOf(format).OptionsType], [])[0];

    private async ValueTask MakeAsync(
        string format, string target, OptionMap options, CreateRequest request,
        Func<ImageCreator, CreateContext, object, BlockNode?, CancellationToken, ValueTask> fill, BlockNode? source,
        CancellationToken cancellationToken)
    {
        ImageCreator creator = CreatorOf(format);
        await using var context = new MakerContext(registry, _opener, target, request);
        options = options.Clone();
        if (options.Get("size") is null && source is not null)
        {
            options.Set("size", source.Length.ToString(CultureInfo.InvariantCulture));
        }
        else if (options.Get("backing_file") is { Length: > 0 } parent
            && (request.CheckParent || options.Get("size") is null))
        {
            BlockNode node = await context.OpenParentAsync(parent, options.Get("backing_fmt"), cancellationToken)
                .ConfigureAwait(false);
            if (options.Get("size") is null)
            {
                options.Set("size", node.Length.ToString(CultureInfo.InvariantCulture));
            }
        }

        // Not every format can write down what its parent is; the user may say it all the same.
        if (options.Contains("backing_file") && !OptionSchema.Of(creator.OptionsType).TryFind("backing_fmt", out _))
        {
            options.Remove("backing_fmt");
        }

        object bound = Bind(format, options);
        try
        {
            await context.MakeFileAsync(cancellationToken).ConfigureAwait(false);
            await fill(creator, context, bound, source, cancellationToken).ConfigureAwait(false);
            await context.CloseFilesAsync().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await context.RemoveFilesAsync().ConfigureAwait(false);
            (e as BlockException)?.Stamp(context.Location, null);
            throw;
        }
    }
}

/// <summary>How an image is to be made.</summary>
public sealed record CreateRequest
{
    /// <summary>A file that exists and is not empty is emptied first; otherwise it is an error.</summary>
    public bool Overwrite { get; init; }

    /// <summary>A parent must be there and must open.</summary>
    public bool CheckParent { get; init; } = true;

    /// <summary>How files are opened: locking, secrets, whether parents may lie outside.</summary>
    public OpenFlags Flags { get; init; } = new() { Writable = true };

    /// <summary>Takes warnings.</summary>
    public Action<string>? Warning { get; init; }
}

/// <summary>The context of one image being made.</summary>
internal sealed class MakerContext(
    DriverRegistry registry, GraphOpener opener, string target, CreateRequest request) : CreateContext, IAsyncDisposable
{
    private readonly SourceParser _parser = new(registry);
    private readonly List<Graph> _files = [];
    private readonly List<Graph> _parents = [];
    private readonly List<(BlockDriver Driver, object Options)> _made = [];
    private string? _location;

    public override BlockNode File => _files[0].Root;

    public override string FileName => Path.GetFileName(Location);

    public override SecretStore Secrets => request.Flags.Secrets;

    /// <summary>What references start from.</summary>
    public string Location => _location ??= target.StartsWith(SourceParser.JsonPrefix, StringComparison.Ordinal)
        ? Locate(_parser.ParseFile(target)) : target;

    public override void Warn(string message) => request.Warning?.Invoke(message);

    public override string ResolveReference(string reference) => References.Resolve(reference, Location).Text;

    public override async ValueTask<BlockNode> CreateSiblingAsync(string name, CancellationToken cancellationToken)
    {
        if (name != Path.GetFileName(name) || name is "" or "." or "..")
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, $"'{References.Shorten(name)}' is not the name of a file beside the image");
        }

        return await OpenNewAsync(References.Resolve(name, Location).Text, cancellationToken).ConfigureAwait(false);
    }

    public override async ValueTask<BlockNode> OpenParentAsync(
        string reference, string? format, CancellationToken cancellationToken)
    {
        string text = References.Resolve(reference, Location).Text;
        OptionMap options = _parser.Parse(text);
        if (format is not null)
        {
            options.Set("driver", format);
        }

        // The user names the parent here, so it may lie anywhere.
        Graph parent = await opener.OpenAsync(
            options, request.Flags with { Writable = false, NoBacking = false }, cancellationToken).ConfigureAwait(false);
        _parents.Add(parent);
        return parent.Root;
    }

    /// <summary>Makes the file of the image itself.</summary>
    public async ValueTask MakeFileAsync(CancellationToken cancellationToken) =>
        await OpenNewAsync(target, cancellationToken).ConfigureAwait(false);

    /// <summary>Closes what was written; failures count.</summary>
    public async ValueTask CloseFilesAsync()
    {
        foreach (Graph file in Enumerable.Reverse(_files))
        {
            await file.CloseAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Closes and removes what was made, after a failure, which is the one to report.</summary>
    public async ValueTask RemoveFilesAsync()
    {
        foreach (Graph file in Enumerable.Reverse(_files))
        {
            await TryAsync(() => file.CloseAsync()).ConfigureAwait(false);
        }

        foreach ((BlockDriver driver, object options) in _made)
        {
            await TryAsync(() => driver.DeleteFileAsync(options, Secrets, CancellationToken.None)).ConfigureAwait(false);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (Graph graph in _files.Concat(_parents))
        {
            await TryAsync(() => graph.CloseAsync()).ConfigureAwait(false);
        }
    }

    private (BlockDriver Driver, object Options) Bind(OptionMap file)
    {
        BlockDriver driver = registry.Get(file.Get("driver") ?? "file");
        OptionMap own = file.Clone();
        own.Remove("driver");
        return (driver, OptionBinder.Bind(own, $"driver '{driver.Name}'", "", [driver.OptionsType], [])[0]);
    }

    private string Locate(OptionMap file)
    {
        (BlockDriver driver, object options) = Bind(file);
        return driver.Locate(options) ?? file.Get("filename") ?? "";
    }

    private async ValueTask TryAsync(Func<ValueTask> action)
    {
        try
        {
            await action().ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            Warn($"cleaning up after a failure: {e.Describe()}");
        }
    }

    private async ValueTask<BlockNode> OpenNewAsync(string path, CancellationToken cancellationToken)
    {
        OptionMap options = _parser.ParseFile(path);
        (BlockDriver driver, object bound) = Bind(options);
        if (await driver.CreateFileAsync(bound, Secrets, cancellationToken).ConfigureAwait(false))
        {
            _made.Add((driver, bound));
        }

        options.Set("driver", driver.Name);
        Graph file = await opener.OpenAsync(
            options, request.Flags with { Writable = true, Direct = false }, cancellationToken).ConfigureAwait(false);
        _files.Add(file);
        BlockNode node = file.Root;
        if (node.Length == 0)
        {
            return node;
        }

        // Only now, with the lock held: nobody loses an image that is in use, or that he did not mean.
        if (!request.Overwrite)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the file exists and is not empty")
            {
                Found = $"{node.Length} bytes",
                Hint = "Choose another name, or say --overwrite to lose what it holds.",
            };
        }

        if (!await node.TryResizeAsync(0, cancellationToken).ConfigureAwait(false))
        {
            await WipeHeadAsync(node, cancellationToken).ConfigureAwait(false);
        }

        return node;
    }

    /// <summary>A device cannot be emptied; at least nothing of an old image may be recognised.</summary>
    private static async ValueTask WipeHeadAsync(BlockNode node, CancellationToken cancellationToken)
    {
        const long Head = 1 << 20;
        await node.ZeroAsync(0, Math.Min(Head, node.Length), ZeroFlags.None, cancellationToken).ConfigureAwait(false);
        await node.FlushAsync(cancellationToken).ConfigureAwait(false);
    }
}
