using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Before the first change of an extent that was not closed properly: makes the redundant directory and tables equal
/// to the primary ones. The redundant ones are written first, so they may name what never became valid. A crash during
/// the repair leaves the unclean mark, and the next one begins again.
/// </summary>
internal static class VmdkRepair
{
    /// <summary>Repairs an extent; durable when the task completes. No table of it may be changed meanwhile.</summary>
    public static async ValueTask RunAsync(
        VmdkSparseExtent extent, VmdkFileSpace space, CancellationToken cancellationToken)
    {
        if (extent.Directory.Redundant is not { } redundant)
        {
            return;
        }

        uint[] primary = extent.Directory.Primary;
        bool directoryChanged = false;
        for (int i = 0; i < primary.Length; i++)
        {
            if (primary[i] == redundant[i])
            {
                continue; // None, or one table that serves as both.
            }

            if (primary[i] == 0)
            {
                redundant[i] = 0;
                directoryChanged = true;
                continue;
            }

            if (!VmdkGrainDirectory.IsInside(redundant[i], extent.Header.TableSize, extent.Node.Length)
                || redundant[i] == 0)
            {
                (long host, _) = await space.ReserveAsync(extent.Header.TableSize, cancellationToken)
                    .ConfigureAwait(false);
                redundant[i] = (uint)(host / VmdkLayout.SectorSize);
                directoryChanged = true;
            }

            await CopyTableAsync(extent, primary[i], redundant[i], cancellationToken).ConfigureAwait(false);
        }

        await extent.Node.FlushAsync(cancellationToken).ConfigureAwait(false);
        if (directoryChanged)
        {
            var stored = new byte[redundant.Length * sizeof(uint)];
            VmdkGrainDirectory.Store(redundant, stored);
            await extent.Node.WriteAsync(
                extent.Header.RedundantDirectoryOffset, stored, WriteFlags.None, cancellationToken).ConfigureAwait(false);
            await extent.Node.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private static async ValueTask CopyTableAsync(
        VmdkSparseExtent extent, uint from, uint to, CancellationToken cancellationToken)
    {
        uint[] good = await extent.ReadTableAsync(from, cancellationToken).ConfigureAwait(false);
        uint[] copy = await extent.ReadTableAsync(to, cancellationToken).ConfigureAwait(false);
        if (good.AsSpan().SequenceEqual(copy))
        {
            return;
        }

        using BufferLease bytes = BufferPool.Shared.Rent(extent.Header.TableSize);
        VmdkGrainDirectory.Store(good, bytes.Span);
        await extent.Node.WriteAsync(
            (long)to * VmdkLayout.SectorSize, bytes.Memory, WriteFlags.None, cancellationToken).ConfigureAwait(false);
    }
}
