using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qcow;

/// <summary>An open qcow image: the engine with two-level tables. Nothing in its header changes while it is written.</summary>
internal sealed class QcowDevice : MappedDevice, ICheckable
{
    private readonly QcowHeader _header;
    private readonly ClusterImage _image;
    private readonly ClusterMap _map;
    private readonly Func<string, string> _resolve;
    private readonly ClusterWriter? _writer;

    /// <summary>Makes the device.</summary>
    /// <exception cref="BlockException">InvalidData: tables lie over one another, and it is to be written.</exception>
    public QcowDevice(
        QcowHeader header, ClusterImage image, bool writable, Func<string, string> resolve, PayloadCipher? cipher)
    {
        Cipher = cipher;
        _header = header;
        _image = image;
        _map = new ClusterMap(image, header.Size);
        _resolve = resolve;
        Children = image.Backing is null
            ? [new BlockChild("file", image.File)]
            : [new BlockChild("file", image.File), new BlockChild("backing", image.Backing)];
        if (writable)
        {
            var metadata = TableMap.Note(
                image, (0, QcowLayout.HeaderSize), (header.L1Offset, (long)header.L1Entries * sizeof(ulong)));
            if (header.BackingFile is not null)
            {
                long first = header.BackingNameOffset >> header.Geometry.ClusterBits;
                long last = (header.BackingNameOffset + header.BackingNameSize - 1) >> header.Geometry.ClusterBits;
                metadata.Add(first, last - first + 1, out _);
            }

            var nothing = new FirstTime(static () => default);
            _writer = new ClusterWriter(
                image, _map, metadata, new ClusterSpace(image.File, header.Geometry, QcowLayout.MaxEnd), nothing,
                nothing);
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writer is null
        ? BlockCapabilities.Map
        : BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard;

    /// <inheritdoc/>
    public override BlockLimits Limits => BlockLimits.Default with
    {
        OptimalTransfer = _header.Geometry.ClusterSize,
        RequestAlignment = Cipher is null ? 1 : PayloadCipher.Sector,
    };

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writer;

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = _header.Geometry.ClusterSize;
        if (_header.CryptMethod != QcowLayout.CryptNone)
        {
            info.Encrypted = true;
        }

        if (_header.BackingFile is not null)
        {
            info.BackingFileName = _header.BackingFile;
            info.FullBackingFileName = _resolve(_header.BackingFile);
        }

        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        // The check reads the file; what is still in memory has to get there first.
        await FlushAsync(cancellationToken).ConfigureAwait(false);
        return await QcowCheck.RunAsync(_image, _header, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        using PayloadCipher? cipher = Cipher; // The key goes, whatever else fails.
        await base.CloseAsync().ConfigureAwait(false);
        if (_writer is not null)
        {
            await _writer.CloseAsync().ConfigureAwait(false);
        }
    }
}
