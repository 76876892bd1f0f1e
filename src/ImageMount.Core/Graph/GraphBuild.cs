using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>
/// Opens the nodes of one graph and keeps account of them. Nodes are listed in the order in which they were finished:
/// children before the node that uses them, so that closing goes backwards.
/// </summary>
internal sealed class GraphBuild(DriverRegistry registry)
{
    private const int MaxWarnings = 10_000;
    private readonly SourceParser _parser = new(registry);
    private readonly List<OpenedNode> _nodes = [];
    private readonly List<string> _warnings = [];
    private int _extents;

    public IReadOnlyList<OpenedNode> Nodes => _nodes;

    public SourceParser Parser => _parser;

    public string[] Warnings()
    {
        lock (_warnings)
        {
            return [.. _warnings];
        }
    }

    /// <summary>Hears of warnings from now on; those before are in <see cref="Warnings"/>.</summary>
    public Action<string>? Listener { get; set; }

    public void Warn(string message)
    {
        lock (_warnings)
        {
            if (_warnings.Count >= MaxWarnings || _warnings.Contains(message))
            {
                return;
            }

            _warnings.Add(message);
        }

        Listener?.Invoke(message);
    }

    /// <summary>Opens a node and all below it. When that fails, everything it opened is closed again.</summary>
    public async ValueTask<OpenedNode> OpenAsync(NodeRequest request, CancellationToken cancellationToken)
    {
        int mark = _nodes.Count;
        try
        {
            OptionMap options = request.Options.Clone();
            NodeSettings settings = ReadSettings(options, request.Prefix);
            request = request with { Options = options, Flags = settings.Apply(request.Flags) };
            if (settings.Driver is null && request.IsProtocolPlace)
            {
                AddProtocolFromName(options, request.Prefix);
                settings = ReadSettings(options, request.Prefix);
            }

            BlockDriver? driver = settings.Driver is null ? null : registry.Get(settings.Driver);
            return driver?.Kind == DriverKind.Protocol
                ? await OpenProtocolAsync(request, settings, driver, cancellationToken).ConfigureAwait(false)
                : await OpenStackedAsync(request, settings, driver, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await CloseDownToAsync(mark).ConfigureAwait(false);
            throw;
        }
    }

    private static NodeSettings ReadSettings(OptionMap options, string prefix)
    {
        var own = new OptionMap();
        foreach (string key in OptionSchema.Of(typeof(NodeSettings)).Keys)
        {
            if (options.Find(key) is string value)
            {
                own.SetPath(key, value);
            }
        }

        return (NodeSettings)OptionBinder.Bind(own, "a node", prefix, [typeof(NodeSettings)], [])[0];
    }

    /// <summary>"filename" alone names a protocol node: by its URI scheme, else a file.</summary>
    private void AddProtocolFromName(OptionMap options, string prefix)
    {
        if (options.Get("filename") is not { } name)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, $"'{prefix.TrimEnd('.')}' does not say where the bytes are")
            {
                Expected = $"'{prefix}filename', or '{prefix}driver' with its options",
            };
        }

        options.Remove("filename");
        OptionMap named = _parser.ParseProtocol(name);
        named.Merge(options);
        options.Merge(named);
    }

    private async ValueTask<OpenedNode> OpenProtocolAsync(
        NodeRequest request, NodeSettings settings, BlockDriver driver, CancellationToken cancellationToken)
    {
        object bound = Bind(request, driver);
        string? located = driver.Locate(bound); // Before the name as given, which may be a URL with a password.
        string? file = request.Options.Get("filename");
        string? location = located ?? (file is null ? null : References.AsPath(file));
        string name = settings.NodeName ?? located ?? file ?? driver.Name;
        // By path before opening, because opening an image twice would first fail on our own lock; by what the device
        // knows afterwards, because hard links have no common path.
        string? place = PlaceOf(driver, location);
        Frame.RefuseLoop(request.Referrer, place, null, name);
        var context = new GraphContext(this, request, null, name);
        RemoteNodes? layer = RemoteNodes.For(request, driver, bound, name, Warn);
        BlockNode? node;
        bool isStandIn = false;
        try
        {
            node = await OpenNodeAsync(request, driver, bound, context, name, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (layer is not null)
        {
            node = layer.InsteadOf(e, request.Flags);
            if (node is null)
            {
                throw;
            }

            isStandIn = true;
        }

        string? identity = (node.Device as IHasIdentity)?.Identity;
        OpenedNode opened = Keep(
            new OpenedNode(node, driver, bound, null, location, place, identity) { IsExtent = request.IsExtent });
        Frame.RefuseLoop(request.Referrer, place, identity, name);

        // What is put over it takes its place in every way: formats are to see a protocol below them.
        return !isStandIn && layer?.Over(node) is { } over ? Keep(opened with { Node = over, File = opened }) : opened;
    }

    /// <summary>Opens a format or filter: first what it stands on, then itself.</summary>
    private async ValueTask<OpenedNode> OpenStackedAsync(
        NodeRequest request, NodeSettings settings, BlockDriver? driver, CancellationToken cancellationToken)
    {
        Frame frame = Frame.Enter(request.Referrer, request.IsTyped);
        int mark = _nodes.Count;
        frame.File = request.File
            ?? await OpenFileAsync(request, driver, frame, cancellationToken).ConfigureAwait(false);
        driver = await UnwrapAsync(request, driver, frame, mark, cancellationToken).ConfigureAwait(false);
        string name = settings.NodeName ?? frame.File.Node.Name;
        if (request.Flags.Writable && (driver.WritesFile || driver.IsWrapper) && !frame.File.Node.CanWrite)
        {
            if (!frame.File.Driver.ShowsPlainDisk)
            {
                Warn($"{name}: what it is stored in can only be read, so it is opened for reading only");
            }

            request = request with { Flags = request.Flags with { Writable = false } };
        }

        object bound = Bind(request, driver);
        var context = new GraphContext(this, request, frame, name);
        BlockNode node = await OpenNodeAsync(request, driver, bound, context, name, cancellationToken)
            .ConfigureAwait(false);
        OpenedNode opened = Keep(
            frame.File with { Node = node, Driver = driver, Options = bound, File = frame.File });
        context.CheckAllChildrenUsed(OptionSchema.Of(driver.OptionsType));
        return opened;
    }

    private async ValueTask<OpenedNode> OpenFileAsync(
        NodeRequest request, BlockDriver? driver, Frame frame, CancellationToken cancellationToken)
    {
        bool overFilter = driver?.Kind == DriverKind.Filter;
        OptionMap options = request.Options;
        OptionMap? file = options.GetMap("file");
        string? name = options.Get("file") ?? options.Get("filename");
        if (file is null && string.IsNullOrEmpty(name))
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument,
                driver is null ? "the options do not name an image" : $"{request.Subject(driver)} needs an image")
            {
                Expected = $"'{request.Prefix}file.filename', or '{request.Prefix}file.driver' with its options",
            };
        }

        if (!string.IsNullOrEmpty(name))
        {
            options.Remove(options.Get("file") is null ? "filename" : "file");
            OptionMap named = overFilter ? _parser.Parse(name) : _parser.ParseProtocol(name);
            named.Merge(file ?? new OptionMap());
            file = named;
            options.Set("file", file);
        }

        return await OpenAsync(
            new NodeRequest
            {
                Options = file!,
                Flags = request.Flags with { Writable = request.Flags.Writable && driver?.WritesFile != false },
                Referrer = frame,
                Prefix = request.Prefix + "file.",
                IsTyped = request.IsTyped,
                IsProtocolPlace = !overFilter,
            },
            cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<BlockNode> OpenNodeAsync(
        NodeRequest request, BlockDriver driver, object bound, GraphContext context, string name,
        CancellationToken cancellationToken)
    {
        try
        {
            BlockDevice device = await driver.OpenAsync(context, bound, cancellationToken).ConfigureAwait(false);
            bool isTop = request.Referrer is null;
            return new BlockNode(name, driver.Name, device, new NodeOptions
            {
                ReadOnly = !request.Flags.Writable,

                // The guest's durability is promised once, at the top; metadata below keeps its own order.
                WriteThrough = isTop && request.Flags.WriteThrough,

                // Formats still write their tables when asked to flush; only the wait for the disk is left out.
                IgnoreFlush = driver.Kind == DriverKind.Protocol && request.Flags.IgnoreFlush,
            });
        }
        catch (BlockException e)
        {
            e.Stamp(name, null);
            throw;
        }
    }

    /// <summary>Accounts for a node; one too many is closed here, because nobody else knows it yet.</summary>
    private OpenedNode Keep(OpenedNode node)
    {
        _nodes.Add(node);
        _extents += node.IsExtent ? 1 : 0;
        if (_extents > GraphLimits.MaxExtents)
        {
            throw BlockException.Limit("the disk has too many parts", _extents, GraphLimits.MaxExtents);
        }

        if (_nodes.Count - _extents > GraphLimits.MaxNodes)
        {
            throw BlockException.Limit(
                "the image is made of too many nodes", _nodes.Count - _extents, GraphLimits.MaxNodes);
        }

        return node;
    }

    private static object Bind(NodeRequest request, BlockDriver driver)
    {
        var children = OptionSchema.Of(driver.OptionsType).Children.Select(child => child.Role).ToHashSet();
        if (driver.Kind != DriverKind.Protocol)
        {
            children.Add("file");
        }

        return OptionBinder.Bind(
            request.Options, request.Subject(driver), request.Prefix, [driver.OptionsType, typeof(NodeSettings)],
            children)[0];
    }

    private static string? PlaceOf(BlockDriver driver, string? location) => location is null ? null
        : $"{driver.Name}:{(References.IsUri(location) ? location : HostPath.Resolve(location))}";

    /// <summary>
    /// Finds the driver of an image. Wrappers on the way (a compressed file, an archive) are opened, so that the
    /// frame's file is then what the driver is to be opened over. A format that the user or an image named is looked
    /// for behind wrappers only when the file itself does not look like it; "raw" always means the bytes as they are.
    /// </summary>
    private async ValueTask<BlockDriver> UnwrapAsync(
        NodeRequest request, BlockDriver? named, Frame frame, int mark, CancellationToken cancellationToken)
    {
        if (named is not null && (named.Kind != DriverKind.Format || named.Name == "raw"
            || frame.File!.Driver is { Kind: not DriverKind.Protocol, IsWrapper: false }))
        {
            return named;
        }

        if (frame.File!.Driver.ShowsPlainDisk)
        {
            return named ?? registry.Get("raw");
        }

        while (true)
        {
            BlockDriver? found = await ProbeAsync(frame.File!, named, cancellationToken).ConfigureAwait(false);
            if (found is not { IsWrapper: true } || found == named)
            {
                return named ?? found ?? registry.Get("raw");
            }

            frame.Unwrap();
            if (frame.File!.Node.CanWrite && !found.WritesFile && request.File is null)
            {
                // That it is only read is known just now: without the writer's lock others may read it too.
                await CloseDownToAsync(mark).ConfigureAwait(false);
                frame.File = null;
                frame.File = await OpenFileAsync(request, found, frame, cancellationToken).ConfigureAwait(false);
            }

            frame.File = await OpenWrapperAsync(request, found, frame, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask<OpenedNode> OpenWrapperAsync(
        NodeRequest request, BlockDriver driver, Frame frame, CancellationToken cancellationToken)
    {
        OpenedNode file = frame.File!;
        request = request with
        {
            Options = new OptionMap(),
            Flags = request.Flags with { Writable = request.Flags.Writable && file.Node.CanWrite },
            Referrer = frame,
        };
        object bound = Bind(request, driver);
        var context = new GraphContext(this, request, frame, file.Node.Name);
        BlockNode node = await OpenNodeAsync(request, driver, bound, context, file.Node.Name, cancellationToken)
            .ConfigureAwait(false);
        return Keep(file with { Node = node, Driver = driver, Options = bound, File = file });
    }

    /// <summary>
    /// The driver that recognises a file; <paramref name="named"/> if that does, however unsure it is.
    /// </summary>
    private async ValueTask<BlockDriver?> ProbeAsync(
        OpenedNode file, BlockDriver? named, CancellationToken cancellationToken)
    {
        BlockNode node = file.Node;
        using BufferLease head = BufferPool.Shared.Rent((int)Math.Min(node.Length, ProbeInput.HeadSize));
        using BufferLease tail = BufferPool.Shared.Rent((int)Math.Min(node.Length, ProbeInput.TailSize));
        await node.ReadAsync(0, head.Memory, cancellationToken).ConfigureAwait(false);
        await node.ReadAsync(node.Length - tail.Memory.Length, tail.Memory, cancellationToken).ConfigureAwait(false);
        string fileName = Path.GetFileName(file.Location) ?? "";
        bool Exists(string name) => References.Exists(name, file.Location);
        var input = new ProbeInput(head.Span, tail.Span, node.Length, fileName, Exists);
        return named?.Probe(input) > 0 ? named : registry.Probe(input);
    }

    /// <summary>
    /// Closes what was opened after a moment, users first. The failure that led here is the one to report.
    /// </summary>
    private async ValueTask CloseDownToAsync(int mark)
    {
        for (int i = _nodes.Count - 1; i >= mark; i--)
        {
            _extents -= _nodes[i].IsExtent ? 1 : 0;
            try
            {
                await _nodes[i].Node.CloseAsync().ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                Warn($"closing after a failure: {e.Describe()}");
            }
        }

        _nodes.RemoveRange(mark, _nodes.Count - mark);
    }
}
