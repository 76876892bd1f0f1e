using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Writes back what changed, in the order that keeps every moment safe:
/// <list type="number">
/// <item>reference counts (and the refcount table, after its blocks), while payload was written before;</item>
/// <item>a barrier; then L2 entries, which point to that payload and rely on those counts, and L1 entries;</item>
/// <item>where the L1 table moved, a barrier, then the header that points to it;</item>
/// <item>a barrier; then what the changes set free goes to the reaper, which lowers counts.</item>
/// </list>
/// L1 and L2 entries need no barrier between them: a new L2 table was filled, with zeroes or with what the old one
/// said, before its L1 entry was changed in memory, so the first barrier covers that; without its new entries it says
/// what was true before.
/// All of it is copied at one moment under the lock, so changes may go on meanwhile; they belong to the next
/// write-back. A failure leaves everything dirty, for the next try.
/// </summary>
internal sealed class Qcow2Flush
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Map _map;
    private readonly Qcow2Refcounts _refcounts;
    private readonly Qcow2Reaper _reaper;
    private readonly Qcow2HeaderWriter _header;
    private readonly SemaphoreSlim _gate = new(1, 1);
    private long _asked;
    private long _served;
    private long _writtenSize;
    private long _writtenL1Offset;
    private int _writtenL1Entries;
    private long _writtenTableOffset;

    public Qcow2Flush(Qcow2Image image, Qcow2Map map, Qcow2Refcounts refcounts, Qcow2Reaper reaper)
    {
        _image = image;
        _map = map;
        _refcounts = refcounts;
        _reaper = reaper;
        _header = new Qcow2HeaderWriter(image.File);
        _writtenSize = map.Length;
        _writtenL1Offset = map.L1.Offset;
        _writtenL1Entries = map.L1.Count;
        _writtenTableOffset = refcounts.Table.Offset;
    }

    /// <summary>True when so much is dirty that a change has to write back first.</summary>
    public bool IsCrowded => _image.L2.IsCrowded || _refcounts.Cache.IsCrowded;

    /// <summary>True when something in memory is newer than the file; under the lock.</summary>
    public bool IsDirty =>
        _image.L2.IsDirty || _refcounts.Cache.IsDirty || _map.L1.IsDirty || _refcounts.Table.IsDirty
        || _map.Length != _writtenSize;

    /// <summary>
    /// Makes everything durable that was committed before the call. Callers that come while one write-back is under way
    /// share the next one.
    /// </summary>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        long ticket = Interlocked.Increment(ref _asked);
        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_served >= ticket)
            {
                return; // One that began after we asked has done it.
            }

            long upTo = Interlocked.Read(ref _asked);
            await WriteBackAsync().ConfigureAwait(false);
            _served = upTo;
        }
        finally
        {
            _gate.Release();
        }

        // Not awaited: a request may be asking, and reaping waits for requests. Without any it is over already.
        _ = _reaper.ReapAsync();
    }

    private async ValueTask WriteBackAsync()
    {
        WriteBack work;
        lock (_image.Sync)
        {
            work = new WriteBack(
                _refcounts.Cache.Capture(), _refcounts.Table.CaptureDirty(), _image.L2.Capture(),
                _map.L1.CaptureDirty(), _map.Length, _reaper.Capture());
        }

        bool written = false;
        try
        {
            await WriteAsync(work).ConfigureAwait(false);
            written = true;
        }
        finally
        {
            lock (_image.Sync)
            {
                _refcounts.Cache.Complete(work.Counts, written);
                _image.L2.Complete(work.L2, written);
                if (!written)
                {
                    _refcounts.Table.Restore(work.Table);
                    _map.L1.Restore(work.L1);
                }

                _reaper.Complete(work.Freed, written);
            }
        }
    }

    /// <summary>Not cancellable: half a write-back helps nobody, and the next one would do it all again.</summary>
    private async ValueTask WriteAsync(WriteBack work)
    {
        BlockNode file = _image.File;
        await work.Counts.WriteAsync(file, CancellationToken.None).ConfigureAwait(false);
        if (!work.Table.IsEmpty)
        {
            await file.FlushAsync().ConfigureAwait(false); // Blocks before the table that names them.
            await work.Table.WriteAsync(file, CancellationToken.None).ConfigureAwait(false);
            await WriteTablePlaceAsync(work.Table).ConfigureAwait(false);
        }

        if (_image.DataFile is not null)
        {
            await _image.DataFile.FlushAsync().ConfigureAwait(false);
        }

        await file.FlushAsync().ConfigureAwait(false);
        bool diskMoved = work.Size != _writtenSize || work.L1.Offset != _writtenL1Offset
            || work.L1.Count != _writtenL1Entries;
        if (!work.L2.IsEmpty)
        {
            await work.L2.WriteAsync(file, CancellationToken.None).ConfigureAwait(false);
        }

        if (!work.L1.IsEmpty)
        {
            await work.L1.WriteAsync(file, CancellationToken.None).ConfigureAwait(false);
        }

        if (diskMoved)
        {
            await file.FlushAsync().ConfigureAwait(false); // The whole new table before the header that names it.
            await _header.WriteDiskAsync(
                work.Size, _image.Header.CryptMethod, work.L1.Count, work.L1.Offset, CancellationToken.None)
                .ConfigureAwait(false);
        }

        if (!work.L2.IsEmpty || !work.L1.IsEmpty || diskMoved)
        {
            await file.FlushAsync().ConfigureAwait(false);
        }

        _writtenSize = work.Size;
        _writtenL1Offset = work.L1.Offset;
        _writtenL1Entries = work.L1.Count;
    }

    private async ValueTask WriteTablePlaceAsync(RootTable.Capture table)
    {
        if (table.Offset == _writtenTableOffset)
        {
            return;
        }

        await _image.File.FlushAsync().ConfigureAwait(false);
        int clusters = (int)_image.Geometry.ClustersFor(table.Count * 8L);
        await _header.WriteRefcountTableAsync(table.Offset, clusters, CancellationToken.None).ConfigureAwait(false);
        _writtenTableOffset = table.Offset;
    }

    /// <summary>Copies of everything that was dirty at one moment.</summary>
    private sealed record WriteBack(
        TableCapture Counts, RootTable.Capture Table, TableCapture L2, RootTable.Capture L1, long Size,
        List<Qcow2Freed> Freed);
}
