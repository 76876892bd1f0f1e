using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// A raw external data file holds the disk byte for byte ("Header", raw external data bit). Once every cluster is
/// mapped the tables never change again, and the host's kernel may serve the file itself, for writing too.
/// </summary>
internal static class Qcow2RawData
{
    /// <summary>True when every cluster of the disk is mapped as data.</summary>
    public static async ValueTask<bool> IsFullyMappedAsync(Qcow2Map map, CancellationToken cancellationToken)
    {
        for (long at = 0; at < map.Length;)
        {
            MappedRun run = await map.LookupAsync(at, map.Length - at, cancellationToken).ConfigureAwait(false);
            if (run.Kind != RunKind.Data)
            {
                return false;
            }

            at += run.Length;
        }

        return true;
    }

    /// <summary>Maps every cluster of a range that is not mapped yet to its own place in the data file.</summary>
    public static async ValueTask MapAsync(
        Qcow2Map map, Qcow2Writer writer, Qcow2Image image, long offset, long end, CancellationToken cancellationToken)
    {
        Qcow2Geometry g = image.Geometry;
        long at = offset & -(long)g.ClusterSize;
        while (at < end)
        {
            await writer.BeginChangeAsync(cancellationToken).ConfigureAwait(false);
            await writer.Tables.EnsureOwnAsync(at, cancellationToken).ConfigureAwait(false);
            long key = map.SliceKey((long)(map.L1[at >> g.L1Shift] & Qcow2Layout.OffsetMask), at);
            await image.L2.GetAsync(key).ConfigureAwait(false);
            lock (image.Sync)
            {
                if (image.L2.Find(key) is not { } slice)
                {
                    continue;
                }

                slice.BeginChange();
                for (int index = map.SliceIndex(at); index < g.SliceEntries && at < end; index++, at += g.ClusterSize)
                {
                    ulong bitmap = g.ExtendedL2 ? Qcow2L2Entry.AllStored : 0;
                    map.WriteEntry(slice, index, new Qcow2L2Entry((ulong)at | Qcow2Layout.CopiedFlag, bitmap));
                }

                slice.EndChange();
                image.L2.MarkDirty(slice);
            }
        }
    }
}
