using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>Where the file ends, and how it gets longer.</summary>
internal static class Qcow2FileEnd
{
    private const long MinGrowth = 1 << 20;
    private const long MaxGrowth = 64 << 20;

    /// <summary>
    /// Grows the file in a step that fits its size, to the wanted length at least where the host allows; gives where
    /// the last whole cluster ends. A file that cannot grow stays as it is.
    /// </summary>
    public static async ValueTask<long> GrowAsync(
        Qcow2Image image, long wanted, CancellationToken cancellationToken)
    {
        long length = image.File.Length;
        long step = Math.Clamp(length / 8, MinGrowth, MaxGrowth);
        if ((image.File.Capabilities & BlockCapabilities.Resize) == 0)
        {
            return Math.Min(length, wanted + step) & -(long)image.Geometry.ClusterSize;
        }

        if (wanted > Qcow2Layout.MaxHostOffset)
        {
            throw BlockException.Limit(
                "the file would grow past what qcow2 can address", wanted, Qcow2Layout.MaxHostOffset);
        }

        long target = image.Geometry.RoundUp(Math.Max(wanted, length) + step);
        if (length >= wanted && length % image.Geometry.ClusterSize == 0)
        {
            return length;
        }

        if (!await TryGrowAsync(image.File, target, cancellationToken).ConfigureAwait(false)
            && !await TryGrowAsync(image.File, wanted, cancellationToken).ConfigureAwait(false))
        {
            return length & -(long)image.Geometry.ClusterSize;
        }

        return image.File.Length & -(long)image.Geometry.ClusterSize;
    }

    /// <summary>
    /// Grows the file; a host that is full may still have room for less, so only that refusal is swallowed.
    /// </summary>
    private static async ValueTask<bool> TryGrowAsync(
        BlockNode file, long length, CancellationToken cancellationToken)
    {
        try
        {
            return length <= file.Length
                || await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.NoSpace or BlockErrorKind.LimitExceeded)
        {
            return false;
        }
    }

    /// <summary>First cluster behind everything that is counted, in a file that cannot grow.</summary>
    public static async ValueTask<long> FindLastUsedAsync(Qcow2Image image, Qcow2Refcounts refcounts)
    {
        long end = image.File.Length >> image.Geometry.ClusterBits;

        // Backwards over slices; there are at most as many as the file has clusters for.
        for (long at = end - 1; at >= 0;)
        {
            long key = refcounts.SliceKey(at);
            long sliceStart = at & -refcounts.ClustersPerSlice;
            if (key == 0)
            {
                at = (refcounts.BlockIndex(at) << image.Geometry.RefcountBlockBits) - 1;
                continue;
            }

            TableSlice slice = await refcounts.Cache.GetAsync(key).ConfigureAwait(false);
            lock (image.Sync)
            {
                if (refcounts.Cache.Find(key) is not { } found)
                {
                    continue;
                }

                for (; at >= sliceStart; at--)
                {
                    if (refcounts.Get(found, at) != 0)
                    {
                        return at + 1;
                    }
                }
            }
        }

        return 1;
    }
}
