using ImageMount.Core.Block;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// What happens once, before the first change of an image that may be written: the BAT is read to know what is free
/// and that no two blocks share a place; then the GUIDs of file and data change, durably. An image that is opened for
/// writing and not written stays as it is.
/// </summary>
internal sealed class VhdxSession(VhdxImage image)
{
    private readonly SemaphoreSlim _gate = new(1, 1);
    private VhdxSpace? _space;
    private bool _hasBegun;

    /// <summary>The headers.</summary>
    public VhdxHeaderWriter Headers { get; } = new(image.File, image.Header);

    /// <summary>The log; after <see cref="BeginAsync"/>.</summary>
    public VhdxLogWriter Log => _log ?? throw new InvalidOperationException("the session has not begun");

    private VhdxLogWriter? _log;

    /// <summary>Room for blocks; after <see cref="BeginAsync"/>.</summary>
    public VhdxSpace Space => _space ?? throw new InvalidOperationException("the session has not begun");

    /// <summary>True when something may have changed.</summary>
    public bool HasBegun => Volatile.Read(ref _hasBegun);

    /// <summary>Completes when the image may be changed.</summary>
    /// <exception cref="BlockException">It may not: blocks overlap, or the preparations failed.</exception>
    public async ValueTask BeginAsync(CancellationToken cancellationToken)
    {
        if (HasBegun)
        {
            return;
        }

        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_hasBegun)
            {
                return;
            }

            if (_space is null)
            {
                VhdxUsage usage = await VhdxUsage.ReadAsync(image, image.Metadata.DiskSize, Refuse, cancellationToken)
                    .ConfigureAwait(false);
                _space = new VhdxSpace(image.File, usage, image.Metadata.LeaveBlocksAllocated);
                _log = new VhdxLogWriter(image.File, Headers);
            }

            await Headers.UpdateAsync(
                static old => old with { FileWriteGuid = Guid.NewGuid(), DataWriteGuid = Guid.NewGuid() })
                .ConfigureAwait(false);
            Volatile.Write(ref _hasBegun, true);
        }
        finally
        {
            _gate.Release();
        }
    }

    private void Refuse(long entryIndex, ulong entry, bool wasUsed)
    {
        if (wasUsed)
        {
            throw new BlockException(
                BlockErrorKind.InvalidData,
                "two blocks share a place, or one lies over the metadata: writing would damage both")
            {
                Offset = image.Regions.Bat.Offset + (entryIndex * sizeof(ulong)),
                Found = $"0x{entry:x}",
                Hint = "The image can be read; copy it into a new one.",
            };
        }
    }
}
