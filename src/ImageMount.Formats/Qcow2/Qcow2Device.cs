using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>An open qcow2 image: the payload engine with this format's tables, snapshots and facts.</summary>
public sealed class Qcow2Device : MappedDevice, ISnapshotSource, ICheckable, IAmendable
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Map _map;
    private readonly Func<string, string> _resolve;
    private readonly List<Qcow2Snapshot> _snapshots;
    private readonly List<Qcow2Bitmap> _bitmaps;
    private readonly SemaphoreSlim _resizeGate = new(1, 1);
    private Qcow2Writer? _writer;
    private bool _isHostFile;

    private Qcow2Device(
        Qcow2Image image, Qcow2Map map, List<Qcow2Snapshot> snapshots, List<Qcow2Bitmap> bitmaps,
        Func<string, string> resolve)
    {
        _image = image;
        Cipher = image.Encryption?.Cipher;
        _map = map;
        _resolve = resolve;
        _snapshots = snapshots;
        _bitmaps = bitmaps;
        Snapshots = snapshots.ConvertAll(snapshot => snapshot.Info);
        Children = ListChildren(image);
    }

    /// <inheritdoc/>
    public IReadOnlyList<SnapshotInfo> Snapshots { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities =>
        _writer is null
            ? BlockCapabilities.Map
            : BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
                | BlockCapabilities.Resize;

    /// <inheritdoc/>
    public override BlockLimits Limits => _image.Limits;

    /// <inheritdoc/>
    public Type AmendOptionsType => typeof(Qcow2AmendOptions);

    /// <summary>The header as it was when the image was opened.</summary>
    public Qcow2Header Header => _image.Header;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writer;

    /// <inheritdoc/>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (_writer is null)
        {
            return false;
        }

        await _resizeGate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var resize = new Qcow2Resize(_image, _map, _writer, _bitmaps);
            await resize.RunAsync(newLength, ZeroBehindEndAsync, cancellationToken).ConfigureAwait(false);
            return true;
        }
        finally
        {
            _resizeGate.Release();
        }

        async ValueTask ZeroBehindEndAsync(long offset, long count) =>
            await TryZeroAsync(offset, count, ZeroFlags.MayUnmap, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override bool TryGetHostFile(out HostFileRegion region)
    {
        region = default;
        return _isHostFile && _image.DataFile!.Length == Length && _image.DataFile.TryGetHostFile(out region);
    }

    /// <inheritdoc/>
    public async ValueTask<BlockDevice> OpenSnapshotAsync(SnapshotInfo snapshot, CancellationToken cancellationToken)
    {
        int index = _snapshots.FindIndex(known => known.Info == snapshot);
        if (index < 0)
        {
            throw new BlockException(BlockErrorKind.NotFound, $"the image has no snapshot '{snapshot.Name}'");
        }

        RootTable l1 = await _snapshots[index].ReadL1Async(_image.File, _image.Geometry, cancellationToken)
            .ConfigureAwait(false);
        return new Qcow2SnapshotDevice(_image, l1, snapshot);
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        Qcow2Describe.Fill(info, _image, Length, _snapshots, _bitmaps, _resolve);
        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        // The check reads the file; what is still in memory has to get there first.
        await SettleAsync().ConfigureAwait(false);
        Qcow2Header header = await Qcow2Header.ReadAsync(_image.File, cancellationToken).ConfigureAwait(false);
        return await Qcow2Check.RunAsync(header, _image.File, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        using Qcow2Encryption? encryption = _image.Encryption; // Keys go, whatever else fails.
        await base.CloseAsync().ConfigureAwait(false);
        if (_writer is not { Session.HasBegun: true })
        {
            return;
        }

        await SettleAsync().ConfigureAwait(false);
        if (!_writer.Session.IsDamaged)
        {
            await TrimAsync().ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async ValueTask AmendAsync(
        object options, SecretStore secrets, bool force, CancellationToken cancellationToken)
    {
        if (_writer is null)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, "the image is open for reading only");
        }

        if (_image.Encryption is not { } encryption)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the image is not encrypted");
        }

        await _writer.Session.BeginAsync().ConfigureAwait(false);
        await encryption.AmendAsync(((Qcow2AmendOptions)options).ToLuks(), secrets, force, cancellationToken)
            .ConfigureAwait(false);
    }

    internal static async ValueTask<Qcow2Device> OpenAsync(
        Qcow2Image image, OpenFlags flags, Qcow2Options options, Func<string, string> resolve,
        CancellationToken cancellationToken)
    {
        Qcow2Header header = image.Header;
        RootTable l1 = await RootTable.ReadAsync(
            image.File, header.L1Offset, header.L1Entries, WordOrder.BigEndian, cancellationToken)
            .ConfigureAwait(false);
        (List<Qcow2Snapshot> snapshots, long tableBytes) = await Qcow2Snapshots.ReadAsync(
            image.File, header, cancellationToken).ConfigureAwait(false);
        List<Qcow2Bitmap> bitmaps = header.HasConsistentBitmaps
            ? await Qcow2Bitmaps.ReadAsync(image.File, header, cancellationToken).ConfigureAwait(false)
            : [];
        var map = new Qcow2Map(image, l1, header.Size);
        var device = new Qcow2Device(image, map, snapshots, bitmaps, resolve);
        if (flags.Writable)
        {
            await device.OpenForWritingAsync(flags, options, tableBytes, cancellationToken).ConfigureAwait(false);
        }

        device._isHostFile = header.IsDataFileRaw && header.CryptMethod == 0 && await device.MayExposeDataFileAsync(cancellationToken)
            .ConfigureAwait(false);
        return device;
    }

    /// <summary>Maps the whole disk to a raw data file; for a new image.</summary>
    internal ValueTask MapDataFileAsync(CancellationToken cancellationToken) =>
        Qcow2RawData.MapAsync(_map, _writer!, _image, 0, Length, cancellationToken);

    private static List<BlockChild> ListChildren(Qcow2Image image)
    {
        var children = new List<BlockChild> { new("file", image.File) };
        if (image.DataFile is not null)
        {
            children.Add(new BlockChild("data-file", image.DataFile));
        }

        if (image.Backing is not null)
        {
            children.Add(new BlockChild("backing", image.Backing));
        }

        return children;
    }

    private async ValueTask OpenForWritingAsync(
        OpenFlags flags, Qcow2Options options, long snapshotTableBytes, CancellationToken cancellationToken)
    {
        Qcow2Header header = _image.Header;
        int entries = header.RefcountTableClusters << header.Geometry.ClusterBits - 3;
        RootTable table = await RootTable.ReadAsync(
            _image.File, header.RefcountTableOffset, entries, WordOrder.BigEndian, cancellationToken)
            .ConfigureAwait(false);
        var refcounts = new Qcow2Refcounts(_image, table, options.RefcountCacheSize);
        var metadata = new MetadataMap();
        Qcow2KnownMetadata.Note(metadata, _image, _map.L1, refcounts, _snapshots, snapshotTableBytes, _bitmaps);
        var allocator = new Qcow2Allocator(_image, refcounts, metadata);
        await allocator.InitializeAsync().ConfigureAwait(false);
        var session = new Qcow2Session(_image, _bitmaps);
        var writer = new Qcow2Writer(
            _image, _map, session, refcounts, allocator, flags.Discard && options.PassDiscardRequest, QuiesceAsync);
        if ((header.Incompatible & Qcow2Incompatible.Dirty) != 0)
        {
            await new Qcow2Rebuild(_image, _map, writer)
                .RunAsync(_snapshots, snapshotTableBytes, _bitmaps, cancellationToken).ConfigureAwait(false);
            _image.WasRebuilt = true;
        }

        _writer = writer;
    }

    /// <summary>
    /// True when the kernel may serve a raw data file itself. For writing, nothing may be left to do in the tables, or
    /// in the image before the first write.
    /// </summary>
    private async ValueTask<bool> MayExposeDataFileAsync(CancellationToken cancellationToken)
    {
        if (_writer is null)
        {
            return true;
        }

        return (_image.Header.Autoclear & ~Qcow2Autoclear.Known) == 0
            && !_bitmaps.Exists(bitmap => bitmap.IsEnabled && !bitmap.IsInUse)
            && await Qcow2RawData.IsFullyMappedAsync(_map, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes everything back, lowered counts too. Nobody changes anything meanwhile.</summary>
    private async ValueTask SettleAsync()
    {
        if (_writer is not { Session.HasBegun: true } writer)
        {
            return;
        }

        // What one round frees has its counts lowered and written in the next.
        for (int round = 0; round < 3; round++)
        {
            await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
            await writer.Reaper.ReapAsync().ConfigureAwait(false);
            lock (_image.Sync)
            {
                if (!writer.Reaper.HasWork && !writer.Flush.IsDirty)
                {
                    return;
                }
            }
        }
    }

    /// <summary>Gives the unused end of the file back; a file that cannot shrink just stays longer.</summary>
    private async ValueTask TrimAsync()
    {
        long length;
        lock (_image.Sync)
        {
            length = _writer!.Allocator.TrimmedLength();
        }

        if (length < _image.File.Length && (_image.File.Capabilities & BlockCapabilities.Resize) != 0)
        {
            await _image.File.TryResizeAsync(length).ConfigureAwait(false);
            await _image.File.FlushAsync().ConfigureAwait(false);
        }
    }
}
