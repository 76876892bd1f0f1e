using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// What VHD keeps beside its table: the sector bitmaps, and two copies of the footer. New blocks overwrite the one at
/// the end, so the one at the start has to be sound first; a crash before the new end is durable leaves that one.
/// </summary>
/// <param name="file">The file.</param>
/// <param name="footer">Its footer.</param>
/// <param name="header">Its header.</param>
/// <param name="bitmaps">Cached bitmaps.</param>
/// <param name="space">Room for blocks.</param>
internal sealed class VpcFormat(
    BlockNode file, VpcFooter footer, VpcHeader header, VpcBitmaps bitmaps, FileSpace space) : BlockTableFormat
{
    /// <summary>In a differencing disk the bitmap says for each sector whose it is.</summary>
    public override bool LeasesWholeUnits => footer.Type != VpcType.Differencing;

    /// <inheritdoc/>
    public override async ValueTask BeginAsync(CancellationToken cancellationToken)
    {
        if (!footer.HasHead)
        {
            await file.WriteAsync(0, footer.Bytes, WriteFlags.None, cancellationToken).ConfigureAwait(false);
            await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        await space.RestoreTrailerAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask WriteLeadAsync(long place, int from, int count, CancellationToken cancellationToken)
    {
        using BufferLease bits = BufferPool.Shared.Rent(header.BitmapSize);
        if (LeasesWholeUnits)
        {
            bits.Span.Fill(0xff);
        }
        else
        {
            bits.Span.Clear();
            int end = (from + count + VpcLayout.SectorSize - 1) / VpcLayout.SectorSize;
            for (int sector = from / VpcLayout.SectorSize; sector < end; sector++)
            {
                bits.Span[sector / 8] |= (byte)(0x80 >> (sector % 8));
            }
        }

        await file.WriteAsync(place, bits.Memory, WriteFlags.None, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override void Capture() => bitmaps.Capture();

    /// <inheritdoc/>
    public override ValueTask<bool> WriteAfterBarrierAsync(CancellationToken cancellationToken) =>
        bitmaps.WriteAsync(cancellationToken);

    /// <inheritdoc/>
    public override void Complete(bool succeeded) => bitmaps.Complete(succeeded);

    /// <inheritdoc/>
    public override async ValueTask EndAsync() => await file.FlushAsync().ConfigureAwait(false);
}
