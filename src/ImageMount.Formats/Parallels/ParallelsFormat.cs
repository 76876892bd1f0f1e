using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Parallels;

/// <summary>
/// What Parallels keeps beside its table: the mark of an image that is in use. Once that is set the format extension
/// goes, before anything else changes: its bitmaps would not know of it.
/// </summary>
internal sealed class ParallelsFormat(BlockNode file, ParallelsHeader header) : BlockTableFormat
{
    /// <inheritdoc/>
    public override async ValueTask BeginAsync(CancellationToken cancellationToken)
    {
        await WriteMarkAsync(ParallelsLayout.InUse, cancellationToken).ConfigureAwait(false);
        if (header.ExtensionOffset == 0)
        {
            return;
        }

        using BufferLease none = BufferPool.Shared.Rent(sizeof(ulong));
        none.Span.Clear();
        await file.WriteAsync(ParallelsLayout.ExtensionOffset, none.Memory, WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override ValueTask EndAsync() =>
        WriteMarkAsync(header.InUse == ParallelsLayout.Closed ? ParallelsLayout.Closed : 0, CancellationToken.None);

    private async ValueTask WriteMarkAsync(uint value, CancellationToken cancellationToken)
    {
        using BufferLease mark = BufferPool.Shared.Rent(sizeof(uint));
        BinaryPrimitives.WriteUInt32LittleEndian(mark.Span, value);
        await file.WriteAsync(ParallelsLayout.InUseOffset, mark.Memory, WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }
}
