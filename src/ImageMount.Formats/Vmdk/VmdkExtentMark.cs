using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// What the header of a sparse extent says of its use: the mark that somebody writes it, durable before the first change
/// and cleared by the last; and, in COWD extents, how far space was given out. Other programs give out what lies behind
/// that, so it is never less than what a durable table names: it runs ahead, to the end of the file, and is made exact on
/// close.
/// </summary>
/// <param name="extent">The extent.</param>
/// <param name="space">Its space.</param>
internal sealed class VmdkExtentMark(VmdkSparseExtent extent, VmdkFileSpace space)
{
    private readonly VmdkHeader _header = extent.Header;
    private readonly SemaphoreSlim _marking = new(1, 1);
    private long _announced = extent.Header.FreeOffset ?? 0;
    private bool _marked;

    /// <summary>True once the mark stands in the file.</summary>
    public bool IsSet => Volatile.Read(ref _marked);

    /// <summary>From where on the header calls space free; null where it does not say.</summary>
    public long? FreeOffset => _header.FreeOffset is null ? null : Volatile.Read(ref _announced);

    /// <summary>Says in the header, durably, that the extent is being changed; once, before the first change.</summary>
    public async ValueTask SetAsync(CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _marked))
        {
            return;
        }

        await _marking.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (!_marked)
            {
                if (_header.IsUnclean)
                {
                    await VmdkRepair.RunAsync(extent, space, cancellationToken).ConfigureAwait(false);
                }
                else
                {
                    await WriteAsync(_header.UncleanOffset, _header.UncleanSize, 1, cancellationToken)
                        .ConfigureAwait(false);
                    await extent.Node.FlushAsync(cancellationToken).ConfigureAwait(false);
                }

                Volatile.Write(ref _marked, true);
            }
        }
        finally
        {
            _marking.Release();
        }
    }

    /// <summary>
    /// Covers all space given out so far, where the header keeps that. Comes before the barrier after which tables that
    /// name the space are written. One caller at a time.
    /// </summary>
    public async ValueTask AnnounceSpaceAsync(CancellationToken cancellationToken)
    {
        if (_header.FreeOffset is not null && _announced < space.End)
        {
            await WriteFreeOffsetAsync(Math.Max(extent.Node.Length, space.End), cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Cuts off what was not needed and clears the mark; everything else is durable.</summary>
    public async ValueTask ClearAsync()
    {
        if (_header.FreeOffset is not null && _announced != space.End)
        {
            await WriteFreeOffsetAsync(space.End, CancellationToken.None).ConfigureAwait(false);
            await extent.Node.FlushAsync().ConfigureAwait(false);
        }

        await space.TrimAsync().ConfigureAwait(false);
        await WriteAsync(_header.UncleanOffset, _header.UncleanSize, 0, CancellationToken.None).ConfigureAwait(false);
        await extent.Node.FlushAsync().ConfigureAwait(false);
    }

    private async ValueTask WriteFreeOffsetAsync(long end, CancellationToken cancellationToken)
    {
        uint sector = (uint)Math.Min(end / VmdkLayout.SectorSize, uint.MaxValue);
        await WriteAsync(VmdkLayout.CowdFreeSectorOffset, sizeof(uint), sector, cancellationToken).ConfigureAwait(false);
        Volatile.Write(ref _announced, end);
    }

    private async ValueTask WriteAsync(int offset, int size, uint value, CancellationToken cancellationToken)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(sizeof(uint));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.Span, value);
        await extent.Node.WriteAsync(offset, bytes.Memory[..size], WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
    }
}
