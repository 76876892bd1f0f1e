using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>What a driver sees of the graph while it opens one node.</summary>
/// <param name="build">The graph under construction.</param>
/// <param name="request">The node.</param>
/// <param name="frame">The image that the node is; null for protocols, which refer to nothing.</param>
/// <param name="name">What messages call it.</param>
internal sealed class GraphContext(GraphBuild build, NodeRequest request, Frame? frame, string name) : OpenContext
{
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public override OpenFlags Flags => request.Flags;

    /// <inheritdoc/>
    public override string NodeName => name;

    /// <inheritdoc/>
    public override BlockNode File => Image.File!.Node;

    private Frame Image => frame ?? throw new InvalidOperationException("a protocol driver has no children");

    /// <inheritdoc/>
    public override bool HasChildOptions(string role) => request.Options.Find(role) is not null;

    /// <inheritdoc/>
    public override string ResolveReference(string reference) =>
        References.Resolve(reference, Image.Location).Text;

    /// <inheritdoc/>
    public override string FileName => Path.GetFileName(Image.Location) ?? "";

    /// <inheritdoc/>
    public override bool Exists(string reference) => References.Exists(reference, Image.Location);

    /// <inheritdoc/>
    public override void Warn(string message) => build.Warn($"{name}: {message}");

    /// <inheritdoc/>
    public override async ValueTask<BlockNode?> OpenChildAsync(
        string role, string? reference, string? driver, bool writable, CancellationToken cancellationToken)
    {
        Frame image = Image;
        _used.Add(role);
        object? given = request.Options.Find(role);
        if (given is string { Length: 0 })
        {
            return null;
        }

        OptionMap? typed = given is string source ? build.Parser.Parse(source) : given as OptionMap;
        bool isTyped = typed is not null && NamesItsBytes(typed);
        if (!isTyped && request.Flags.NoBacking && role == "backing")
        {
            string shown = References.Shorten(reference ?? role);
            return new BlockNode(shown, "unopened", new UnopenedDevice(shown), new NodeOptions { ReadOnly = true });
        }

        OptionMap options = isTyped ? typed!.Clone() : FromReference(role, reference, driver, image);
        if (isTyped && driver is not null && !options.Contains("driver"))
        {
            // The user moved the file; what the image says of its format still holds.
            options.Set("driver", driver);
        }
        else if (!isTyped && typed is not null)
        {
            options.Merge(typed);
        }

        bool probed = !isTyped && !options.Contains("driver");
        OpenedNode child = await build.OpenAsync(
            new NodeRequest
            {
                Options = options,
                Flags = request.Flags with { Writable = request.Flags.Writable && writable },
                Referrer = image,
                Prefix = $"{request.Prefix}{role}.",
                IsTyped = isTyped,
            },
            cancellationToken).ConfigureAwait(false);
        if (probed)
        {
            Warn($"the format of its {role} file '{child.Node.Name}' is not recorded in the image; "
                + $"it looks like {child.Driver.Name} (say {request.Prefix}{role}.driver=… to be sure)");
        }

        return child.Node;
    }

    /// <inheritdoc/>
    public override async ValueTask<BlockNode?> OpenExtentAsync(
        string role, string? reference, bool writable, CancellationToken cancellationToken)
    {
        if (HasChildOptions(role))
        {
            // The user may want anything there, a window or a filter too.
            return await OpenChildAsync(role, reference, "raw", writable, cancellationToken).ConfigureAwait(false);
        }

        Frame image = Image;
        _used.Add(role);
        OpenedNode file = await build.OpenAsync(
            new NodeRequest
            {
                Options = FromReference(role, reference, null, image).GetMap("file")
                    ?? throw BlockException.Unsupported($"the image gives options for its {role} instead of a name"),
                Flags = request.Flags with { Writable = request.Flags.Writable && writable },
                Referrer = image,
                Prefix = $"{request.Prefix}{role}.",
                IsTyped = false,
                IsProtocolPlace = true,
                IsExtent = true,
            },
            cancellationToken).ConfigureAwait(false);
        return file.Node;
    }

    /// <summary>
    /// Options for a child that the image does not have are a mistake of the user, not something to ignore.
    /// </summary>
    public void CheckAllChildrenUsed(OptionSchema schema)
    {
        foreach (ChildOptionAttribute child in schema.Children)
        {
            if (child.Role == "file" || (request.Flags.NoBacking && child.Role == "backing"))
            {
                continue;
            }

            IEnumerable<string> roles = child.IsList
                ? request.Options.GetMap(child.Role)?.Keys.Select(key => $"{child.Role}.{key}") ?? []
                : [child.Role];
            foreach (string role in roles)
            {
                if (!_used.Contains(role) && request.Options.Find(role) is not (null or string { Length: 0 }))
                {
                    throw new BlockException(
                        BlockErrorKind.InvalidArgument,
                        $"the option '{request.Prefix}{role}' is given, but the image has no {role}");
                }
            }
        }
    }

    /// <summary>
    /// True when options say where the bytes are, rather than only how to treat what the image names.
    /// </summary>
    private static bool NamesItsBytes(OptionMap options) =>
        options.Contains("filename")
        || options.Get("file") is { Length: > 0 }
        || options.Find("file.filename") is string
        || options.Find("file.driver") is string
        || options.Find("file.file") is not null;

    private OptionMap FromReference(string role, string? reference, string? driver, Frame image)
    {
        if (reference is null)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, $"the image needs a {role} file, and does not say where it is")
            {
                Hint = $"Name it with {request.Prefix}{role}.file.filename=…",
            };
        }

        Reference target = References.Resolve(reference, image.Location);
        if (!request.Flags.AllowExternal)
        {
            References.CheckInside(target, image.TreeRoot, role);
        }

        OptionMap options;
        if (target.Kind == ReferenceKind.Json)
        {
            options = OptionSyntax.ParseJson(target.Text[SourceParser.JsonPrefix.Length..]);
            References.Rebase(options, image.Location);
        }
        else
        {
            options = new OptionMap();
            options.Set("file", target.Kind == ReferenceKind.Path
                ? SourceParser.FileOptions(target.Text) : build.Parser.ParseProtocol(target.Text));
        }

        if (driver is not null && !options.Contains("driver"))
        {
            options.Set("driver", driver);
        }

        return options;
    }
}
