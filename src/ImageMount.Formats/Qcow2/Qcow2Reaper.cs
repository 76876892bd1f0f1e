using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>References that a change of tables gave up: each cluster of the range once.</summary>
internal readonly record struct Qcow2Freed(long Cluster, long Count);

/// <summary>
/// Takes clusters from "no table in memory points here any more" to "may be given out again". In between the change
/// must be durable (else a crash would bring back a table that points to reused space) and requests that looked the old
/// mapping up must have ended. Only then is the count lowered, in the cached refcount block; a crash before leaks
/// clusters and nothing worse.
/// </summary>
internal sealed class Qcow2Reaper
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Refcounts _refcounts;
    private readonly Qcow2Allocator _allocator;
    private readonly Func<ValueTask> _quiesce;
    private readonly bool _discards;
    private readonly SemaphoreSlim _gate = new(1, 1);
    private List<Qcow2Freed> _pending = [];
    private List<Qcow2Freed> _durable = [];

    public Qcow2Reaper(
        Qcow2Image image, Qcow2Refcounts refcounts, Qcow2Allocator allocator, bool discards, Func<ValueTask> quiesce)
    {
        _image = image;
        _refcounts = refcounts;
        _allocator = allocator;
        _quiesce = quiesce;
        _discards = discards && (image.File.Capabilities & BlockCapabilities.Discard) != 0;
    }

    /// <summary>True when something was freed and not given back yet; under the lock.</summary>
    public bool HasWork => _pending.Count > 0 || _durable.Count > 0;

    /// <summary>A table in memory gave up clusters; under the lock, together with that change.</summary>
    public void Add(long cluster, long count) => Append(_pending, new Qcow2Freed(cluster, count));

    /// <summary>Clusters were never pointed to by any table; under the lock.</summary>
    public void AddUnused(in Qcow2Allocation unused) => Append(_durable, new Qcow2Freed(unused.First, unused.Count));

    /// <summary>What is given up by the changes that a write-back is about to make durable; under the lock.</summary>
    public List<Qcow2Freed> Capture()
    {
        List<Qcow2Freed> captured = _pending;
        _pending = [];
        return captured;
    }

    /// <summary>The write-back ended; under the lock.</summary>
    public void Complete(List<Qcow2Freed> captured, bool durable)
    {
        if (!durable)
        {
            captured.AddRange(_pending);
            _pending = captured;
            return;
        }

        _durable.AddRange(captured);
    }

    /// <summary>
    /// Gives back what is durable. Waits for requests that began before, so it is not awaited by a request. When none
    /// is under way it completes at once.
    /// </summary>
    public async Task ReapAsync()
    {
        await _gate.WaitAsync().ConfigureAwait(false);
        try
        {
            List<Qcow2Freed> batch;
            lock (_image.Sync)
            {
                batch = _durable;
                _durable = [];
            }

            if (batch.Count == 0)
            {
                return;
            }

            int done = 0;
            try
            {
                await _quiesce().ConfigureAwait(false);
                for (; done < batch.Count; done++)
                {
                    await FreeAsync(batch, done).ConfigureAwait(false);
                }
            }
            catch (BlockException)
            {
                // A refcount block could not be read. The clusters stay counted: leaked unless a later try succeeds.
                lock (_image.Sync)
                {
                    _durable.AddRange(batch.GetRange(done, batch.Count - done));
                }
            }
        }
        finally
        {
            _gate.Release();
        }
    }

    private static void Append(List<Qcow2Freed> list, Qcow2Freed freed)
    {
        if (list.Count > 0 && list[^1].Cluster + list[^1].Count == freed.Cluster)
        {
            list[^1] = new Qcow2Freed(list[^1].Cluster, list[^1].Count + freed.Count);
        }
        else
        {
            list.Add(freed);
        }
    }

    /// <summary>Lowers the counts of one run, slice by slice, and notes in the batch how far it got.</summary>
    private async ValueTask FreeAsync(List<Qcow2Freed> batch, int index)
    {
        while (batch[index].Count > 0)
        {
            (long cluster, long count) = batch[index];
            count = Math.Min(count, _refcounts.SliceEnd(cluster) - cluster);
            long key = _refcounts.SliceKey(cluster);
            if (key != 0)
            {
                await _refcounts.Cache.GetAsync(key).ConfigureAwait(false);
            }

            await DiscardLastAsync(cluster, count).ConfigureAwait(false);
            if (TryLower(cluster, count))
            {
                batch[index] = new Qcow2Freed(cluster + count, batch[index].Count - count);
            }
        }
    }

    /// <summary>False: the slice was evicted again.</summary>
    private bool TryLower(long cluster, long count)
    {
        lock (_image.Sync)
        {
            long key = _refcounts.SliceKey(cluster);
            if (key == 0)
            {
                return true; // Not counted at all: the image was wrong before us; nothing to lower.
            }

            TableSlice? slice = _refcounts.Cache.Find(key);
            if (slice is null)
            {
                return false;
            }

            for (long i = 0; i < count; i++)
            {
                Lower(slice, cluster + i);
            }

            return true;
        }
    }

    private void Lower(TableSlice slice, long cluster)
    {
        ulong value = _refcounts.Get(slice, cluster);
        if (value == 0)
        {
            return; // Likewise.
        }

        _refcounts.Set(slice, cluster, value - 1);
        if (value == 1)
        {
            if (_allocator.Metadata.Contains(cluster, 1))
            {
                _image.L2.Forget(cluster << _image.Geometry.ClusterBits, _image.Geometry.ClusterSize);
            }

            _allocator.Release(cluster, 1);
        }
    }

    /// <summary>
    /// Tells the file what is not needed any more, while the clusters are still counted and nobody can get them.
    /// Advice: a failure costs space, so it is not passed on.
    /// </summary>
    private async ValueTask DiscardLastAsync(long cluster, long count)
    {
        if (!_discards)
        {
            return;
        }

        int bits = _image.Geometry.ClusterBits;
        for (long at = cluster; at < cluster + count;)
        {
            long end = at;
            lock (_image.Sync)
            {
                while (end < cluster + count && _refcounts.TryGet(end, out ulong value, out _) && value == 1)
                {
                    end++;
                }
            }

            long offset = at << bits;
            long length = Math.Min(end << bits, _image.File.Length) - offset;
            if (length > 0)
            {
                try
                {
                    await _image.File.DiscardAsync(offset, length).ConfigureAwait(false);
                }
                catch (BlockException)
                {
                    return;
                }
            }

            at = end + 1;
        }
    }
}
