using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Updates the headers (2.2.2.1): the one that is not current gets the next sequence number and is made durable, twice,
/// so that both say the same. A crash leaves the old or the new one current. Calls come one after the other.
/// </summary>
internal sealed class VhdxHeaderWriter(BlockNode file, VhdxHeader current)
{
    /// <summary>The header that counts.</summary>
    public VhdxHeader Current { get; private set; } = current;

    /// <summary>Changes both headers; durable when the task completes.</summary>
    public async ValueTask UpdateAsync(Func<VhdxHeader, VhdxHeader> change)
    {
        VhdxHeader changed = change(Current);
        using BufferLease bytes = BufferPool.Shared.Rent(VhdxLayout.HeaderSize);
        for (int i = 0; i < 2; i++)
        {
            VhdxHeader next = changed with
            {
                Slot = 1 - Current.Slot,
                SequenceNumber = unchecked(Current.SequenceNumber + 1),
            };
            if (next.SequenceNumber == 0)
            {
                throw BlockException.Invalid(
                    "the header's sequence number cannot grow any more", VhdxLayout.Header1Offset);
            }

            next.Store(bytes.Span);
            long offset = next.Slot == 0 ? VhdxLayout.Header1Offset : VhdxLayout.Header2Offset;
            await file.WriteAsync(offset, bytes.Memory).ConfigureAwait(false);
            await file.FlushAsync().ConfigureAwait(false);
            Current = next;
        }
    }
}
