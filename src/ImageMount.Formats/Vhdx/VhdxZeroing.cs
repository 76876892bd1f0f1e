using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Zeroes and discards. Whole blocks become "zero" and their places free, which hides a parent too; parts of blocks,
/// and the blocks of a fixed disk, which stay allocated, are zeroed or discarded where they are.
/// </summary>
internal sealed class VhdxZeroing(VhdxImage image, VhdxMap map, VhdxWriter writer, bool discards)
{
    private readonly VhdxGeometry _geometry = image.Geometry;

    private bool KeepsBlocks => image.Metadata.LeaveBlocksAllocated;

    /// <summary>See <see cref="IWritableExtentMap.ZeroUnitsAsync"/>.</summary>
    public async ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        bool unmaps = mayUnmap && !KeepsBlocks;
        (long done, MappedRun run) = await ChangeBlocksAsync(
            guestOffset, count,
            state => state switch
            {
                VhdxState.Zero => BlockChange.None,
                VhdxState.FullyPresent => unmaps ? BlockChange.ToZero : BlockChange.Stop,
                _ => BlockChange.ToZero,
            },
            cancellationToken).ConfigureAwait(false);
        if (done > 0 || run.Kind != RunKind.Data)
        {
            return done;
        }

        long length = unmaps ? Math.Min(run.Length, LeftInBlock(guestOffset)) : run.Length;
        await image.File.ZeroAsync(
            run.HostOffset, length, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None, cancellationToken)
            .ConfigureAwait(false);
        return length;
    }

    /// <summary>Discards what it can of the start of a range; gives how far it got.</summary>
    public async ValueTask<long> DiscardAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        (long done, MappedRun run) = await ChangeBlocksAsync(
            guestOffset, count,
            state => KeepsBlocks ? BlockChange.Stop
                : state is VhdxState.FullyPresent or VhdxState.PartiallyPresent ? BlockChange.ToZero : BlockChange.None,
            cancellationToken).ConfigureAwait(false);
        if (done > 0)
        {
            return done;
        }

        long length = KeepsBlocks ? run.Length : Math.Min(run.Length, LeftInBlock(guestOffset));
        if (discards && run.Kind == RunKind.Data)
        {
            await image.File.DiscardAsync(run.HostOffset, length, cancellationToken).ConfigureAwait(false);
        }

        return length;
    }

    private long LeftInBlock(long guestOffset) => _geometry.BlockSize - (guestOffset & (_geometry.BlockSize - 1));

    /// <summary>
    /// Changes the states of whole blocks from the start of a range on, as far as one piece of the BAT goes. Gives how
    /// many bytes that were, and, when none, what is there.
    /// </summary>
    private async ValueTask<(long Done, MappedRun Run)> ChangeBlocksAsync(
        long guestOffset, long count, Func<VhdxState, BlockChange> decide, CancellationToken cancellationToken)
    {
        long batKey = image.BatKey(_geometry.EntryOf(guestOffset >> _geometry.BlockBits));
        while (true)
        {
            await map.LoadAsync(guestOffset).ConfigureAwait(false);
            Task? wait = null;
            lock (image.Sync)
            {
                if (!map.TryLookup(guestOffset, count, out MappedRun run)
                    || image.Tables.Find(batKey) is not { } bat)
                {
                    continue;
                }

                var changes = new List<(long Entry, ulong Old)>();
                long blocks = CountBlocks(bat, batKey, guestOffset, count, decide, changes);
                long end = guestOffset + (blocks << _geometry.BlockBits);
                if (changes.Count == 0)
                {
                    return (Math.Min(end - guestOffset, count), run);
                }

                if (writer.Leases.TryFindConflict(guestOffset, end, out LeasesInFlight.Hold conflict))
                {
                    wait = conflict.WaitAsync();
                }
                else if (writer.Flush.HasRoom(1))
                {
                    writer.SetEntries(batKey, changes.Select(change => (change.Entry, (ulong)VhdxState.Zero)));
                    foreach ((_, ulong old) in changes)
                    {
                        if (VhdxUsage.HasPlace(old, isBitmap: false))
                        {
                            writer.Flush.Free(VhdxMap.PlaceOf(old), _geometry.BlockSize);
                        }
                    }

                    return (Math.Min(end - guestOffset, count), run);
                }
            }

            if (wait is not null)
            {
                await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    private long CountBlocks(
        TableSlice bat, long batKey, long guestOffset, long count, Func<VhdxState, BlockChange> decide,
        List<(long Entry, ulong Old)> changes)
    {
        if ((guestOffset & (_geometry.BlockSize - 1)) != 0)
        {
            return 0;
        }

        long whole = guestOffset + count == map.Length ? _geometry.BlocksOf(count) : count >> _geometry.BlockBits;
        long block = guestOffset >> _geometry.BlockBits;
        for (long i = 0; i < whole; i++)
        {
            long entryIndex = _geometry.EntryOf(block + i);
            if (image.BatKey(entryIndex) != batKey)
            {
                return i;
            }

            ulong entry = bat.Word(VhdxImage.BatIndex(entryIndex));
            BlockChange change = decide(VhdxMap.StateOf(entry));
            if (change == BlockChange.Stop)
            {
                return i;
            }

            if (change == BlockChange.ToZero)
            {
                changes.Add((entryIndex, entry));
            }
        }

        return whole;
    }

    private enum BlockChange
    {
        /// <summary>Is as it should be.</summary>
        None,

        /// <summary>Becomes "zero".</summary>
        ToZero,

        /// <summary>Stays, and needs something else.</summary>
        Stop,
    }
}
