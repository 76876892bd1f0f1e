using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Changes the disk's length. Growing: the L1 table first, then the new space is made to read as zeroes (old tables, or
/// a longer parent, may have something there), then the length. Shrinking: the length first, then what lies behind the
/// end is freed. The header takes each step in one write, so a crash leaves the old length or the new one.
/// </summary>
internal sealed class Qcow2Resize(
    Qcow2Image image, Qcow2Map map, Qcow2Writer writer, IReadOnlyList<Qcow2Bitmap> bitmaps)
{
    private readonly Qcow2Geometry _geometry = image.Geometry;

    /// <summary>Changes the length.</summary>
    /// <param name="newLength">The new length, bytes.</param>
    /// <param name="zeroAsync">
    /// Makes a range (offset, count) read as zeroes, though it may lie behind the disk's end.
    /// </param>
    /// <param name="cancellationToken">Stops it, before the length is changed.</param>
    public async ValueTask RunAsync(
        long newLength, Func<long, long, ValueTask> zeroAsync, CancellationToken cancellationToken)
    {
        if (newLength == map.Length)
        {
            return;
        }

        Check(newLength);
        await writer.Session.BeginAsync().ConfigureAwait(false);
        await Qcow2Bitmaps.MarkInUseAsync(image.File, bitmaps, all: true, cancellationToken).ConfigureAwait(false);
        if (newLength > map.Length)
        {
            await GrowAsync(newLength, zeroAsync, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            await ShrinkAsync(newLength, cancellationToken).ConfigureAwait(false);
        }
    }

    private void Check(long newLength)
    {
        const int MaxEntries = Qcow2Layout.MaxL1Bytes / 8;
        if (_geometry.L1EntriesFor(newLength) > MaxEntries)
        {
            throw BlockException.Limit(
                "the disk would be too large for its cluster size (L1 entries)", _geometry.L1EntriesFor(newLength),
                MaxEntries);
        }

        if (image.Header.Version == 2 && image.Header.SnapshotCount > 0)
        {
            throw BlockException.Unsupported(
                "a version 2 image with snapshots cannot be resized: its snapshots do not record their size",
                "Upgrade it with 'qemu-img amend -o compat=1.1'.");
        }
    }

    private async ValueTask GrowAsync(
        long newLength, Func<long, long, ValueTask> zeroAsync, CancellationToken cancellationToken)
    {
        long oldLength = map.Length;
        await GrowL1Async((int)_geometry.L1EntriesFor(newLength), cancellationToken).ConfigureAwait(false);
        if (image.DataFile is { } dataFile && dataFile.Length < newLength
            && !await dataFile.TryResizeAsync(newLength, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the data file cannot grow");
        }

        if (image.Header.IsDataFileRaw)
        {
            await Qcow2RawData.MapAsync(map, writer, image, oldLength, newLength, cancellationToken)
                .ConfigureAwait(false);
        }

        await zeroAsync(oldLength, newLength - oldLength).ConfigureAwait(false);
        map.Length = newLength;
        await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
    }

    private async ValueTask GrowL1Async(int entries, CancellationToken cancellationToken)
    {
        if (entries <= map.L1.Count)
        {
            return;
        }

        Qcow2Allocation place = await writer.Allocator.AllocateAsync(
            _geometry.ClustersFor(entries * 8L), cancellationToken).ConfigureAwait(false);
        lock (image.Sync)
        {
            long oldClusters = _geometry.ClustersFor(map.L1.Count * 8L);
            long oldFirst = map.L1.Offset >> _geometry.ClusterBits;
            writer.Allocator.Metadata.Add(place.First, place.Count, out _);
            map.L1.MoveTo(place.First << _geometry.ClusterBits, entries);
            if (oldClusters > 0)
            {
                writer.Reaper.Add(oldFirst, oldClusters);
            }
        }
    }

    private async ValueTask ShrinkAsync(long newLength, CancellationToken cancellationToken)
    {
        long oldLength = map.Length;
        map.Length = newLength;
        await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
        long from = _geometry.RoundUp(newLength);
        long end = _geometry.RoundUp(oldLength);
        await new Qcow2Zeroing(image, map, writer).DropAsync(from, end, cancellationToken).ConfigureAwait(false);
        lock (image.Sync)
        {
            // Tables that describe nothing any more. Those behind the old length may hold a saved machine's state.
            for (long i = _geometry.L1EntriesFor(newLength); i < _geometry.L1EntriesFor(oldLength); i++)
            {
                ulong entry = map.L1[i];
                if (Qcow2Tables.IsOwn(entry))
                {
                    map.L1.Set(i, 0);
                    writer.Reaper.Add((long)(entry & Qcow2Layout.OffsetMask) >> _geometry.ClusterBits, 1);
                }
            }
        }

        if (image.Header.IsDataFileRaw)
        {
            await image.DataFile!.TryResizeAsync(newLength, cancellationToken).ConfigureAwait(false);
        }

        await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
    }
}
