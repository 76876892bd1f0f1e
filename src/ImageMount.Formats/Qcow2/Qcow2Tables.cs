using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Sees to it that an L2 table may be changed: makes one where there is none, and copies one that a snapshot shares
/// ("Snapshots"). The content of the new table is in the file before the L1 entry in memory points to it.
/// </summary>
internal sealed class Qcow2Tables
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Map _map;
    private readonly Qcow2Allocator _allocator;
    private readonly Qcow2Reaper _reaper;
    private readonly SemaphoreSlim _gate = new(1, 1);

    public Qcow2Tables(Qcow2Image image, Qcow2Map map, Qcow2Allocator allocator, Qcow2Reaper reaper)
    {
        _image = image;
        _map = map;
        _allocator = allocator;
        _reaper = reaper;
    }

    /// <summary>True when an L1 entry names a table that belongs to the disk alone.</summary>
    public static bool IsOwn(ulong l1Entry) =>
        (l1Entry & Qcow2Layout.CopiedFlag) != 0 && (l1Entry & Qcow2Layout.OffsetMask) != 0;

    /// <summary>Makes or copies the table that describes a guest offset, unless it is our own already.</summary>
    public async ValueTask EnsureOwnAsync(long guestOffset, CancellationToken cancellationToken)
    {
        long index = guestOffset >> _image.Geometry.L1Shift;
        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ulong old = _map.L1[index];
            if (IsOwn(old))
            {
                return;
            }

            long oldTable = _map.TableOffset(old, guestOffset);
            Qcow2Allocation place = await _allocator.AllocateAsync(1, cancellationToken).ConfigureAwait(false);
            try
            {
                await FillAsync(oldTable, place, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                lock (_image.Sync)
                {
                    _reaper.AddUnused(place);
                }

                throw;
            }

            lock (_image.Sync)
            {
                _allocator.Metadata.Add(place.First, 1, out _);
                _map.L1.Set(index, (ulong)place.First << _image.Geometry.ClusterBits | Qcow2Layout.CopiedFlag);
                if (oldTable != 0)
                {
                    _reaper.Add(oldTable >> _image.Geometry.ClusterBits, 1);
                }
            }
        }
        finally
        {
            _gate.Release();
        }
    }

    private async ValueTask FillAsync(long oldTable, Qcow2Allocation place, CancellationToken cancellationToken)
    {
        int clusterSize = _image.Geometry.ClusterSize;
        long offset = place.First << _image.Geometry.ClusterBits;
        if (oldTable == 0)
        {
            if (!place.ReadsZero)
            {
                await _image.File.ZeroAsync(offset, clusterSize, ZeroFlags.None, cancellationToken)
                    .ConfigureAwait(false);
            }

            return;
        }

        if (oldTable > _image.File.Length - clusterSize)
        {
            throw BlockException.Invalid("an L2 table lies outside the file", oldTable, $"0x{oldTable:x}");
        }

        // A shared table is never changed in place, so the file has its current content.
        using BufferLease copy = BufferPool.Shared.Rent(clusterSize);
        await _image.File.ReadAsync(oldTable, copy.Memory, cancellationToken).ConfigureAwait(false);
        await _image.File.WriteAsync(offset, copy.Memory, WriteFlags.None, cancellationToken).ConfigureAwait(false);
    }
}
