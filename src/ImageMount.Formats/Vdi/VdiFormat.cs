using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vdi;

/// <summary>
/// What VDI keeps beside its table. VirtualBox and QEMU put a new block at the place that the header's counter says, so
/// the counter is never smaller than the highest place in use plus one: it is made durable before the table names the
/// place. A crash in between leaves it too large, which costs room; the next writer sets it right.
/// </summary>
/// <param name="file">The file.</param>
/// <param name="header">Its header.</param>
/// <param name="space">The room for blocks; its units are the places.</param>
internal sealed class VdiFormat(BlockNode file, VdiHeader header, FileSpace space) : BlockTableFormat
{
    private uint _stored = header.BlocksAllocated;
    private uint _captured = header.BlocksAllocated;

    /// <summary>The id that changes with the disk.</summary>
    public Guid ModifyId { get; private set; } = header.ModifyId;

    /// <summary>Gives the disk a new id before its first change: children of the old content can tell.</summary>
    public override async ValueTask BeginAsync(CancellationToken cancellationToken)
    {
        var id = Guid.NewGuid();
        using BufferLease bytes = BufferPool.Shared.Rent(16);
        id.TryWriteBytes(bytes.Span);
        await file.WriteAsync(VdiLayout.ModifyIdOffset, bytes.Memory, WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        ModifyId = id;
    }

    /// <inheritdoc/>
    public override void Capture() => _captured = (uint)space.Next;

    /// <inheritdoc/>
    public override async ValueTask WriteBeforeBarrierAsync(CancellationToken cancellationToken)
    {
        if (_captured == _stored)
        {
            return;
        }

        using BufferLease bytes = BufferPool.Shared.Rent(sizeof(uint));
        Le32 count = _captured;
        System.Runtime.InteropServices.MemoryMarshal.Write(bytes.Span, in count);
        await file.WriteAsync(VdiLayout.CountOffset, bytes.Memory, WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        _stored = _captured;
    }

    /// <inheritdoc/>
    public override async ValueTask EndAsync()
    {
        Capture();
        await WriteBeforeBarrierAsync(CancellationToken.None).ConfigureAwait(false);
        await file.FlushAsync().ConfigureAwait(false);
    }
}
