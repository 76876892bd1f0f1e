using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Changes the size of a disk, as far as its BAT has room. Growing: what is new is made zero, durably, before the size
/// says that it is there. Shrinking: the size first, then the entries behind it and their places.
/// </summary>
internal sealed class VhdxResize(VhdxImage image, VhdxMap map, VhdxWriter writer)
{
    private readonly VhdxGeometry _geometry = image.Geometry;

    /// <summary>Runs it; one at a time.</summary>
    /// <param name="newLength">The new size, bytes.</param>
    /// <param name="zeroAsync">Zeroes guest bytes, which may lie behind the end.</param>
    /// <param name="cancellationToken">Stops it, before the size is changed.</param>
    public async ValueTask RunAsync(
        long newLength, Func<long, long, ValueTask> zeroAsync, CancellationToken cancellationToken)
    {
        long oldLength = map.Length;
        if (newLength == oldLength)
        {
            return;
        }

        Check(newLength);
        await writer.Session.BeginAsync(cancellationToken).ConfigureAwait(false);
        if (newLength < oldLength)
        {
            await SetSizeAsync(newLength).ConfigureAwait(false);
            await ChangeEntriesAsync(newLength, oldLength, shrinks: true, default).ConfigureAwait(false);
            await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
            return;
        }

        long blockEnd = _geometry.BlocksOf(oldLength) << _geometry.BlockBits;
        await ChangeEntriesAsync(oldLength, newLength, shrinks: false, cancellationToken).ConfigureAwait(false);
        if (blockEnd > oldLength)
        {
            await CompleteLastBlockAsync(blockEnd - 1, cancellationToken).ConfigureAwait(false);
            await zeroAsync(oldLength, Math.Min(blockEnd, newLength) - oldLength).ConfigureAwait(false);
        }

        await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
        await SetSizeAsync(newLength).ConfigureAwait(false);
    }

    private void Check(long newLength)
    {
        if (newLength > VhdxLayout.MaxDiskSize || newLength % _geometry.SectorSize != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the size is not possible for a vhdx image")
            {
                Found = newLength.ToString(CultureInfo.InvariantCulture),
                Expected = $"a multiple of {_geometry.SectorSize} up to 64 TiB",
            };
        }

        if (_geometry.EntriesOf(newLength) * sizeof(ulong) > image.Regions.Bat.Length)
        {
            throw BlockException.Unsupported(
                "the image's block allocation table has no room for so large a disk",
                "Convert it into a new image of that size.");
        }

        if (image.Metadata.DiskSizePlace % sizeof(ulong) != 0)
        {
            throw BlockException.Unsupported("the size of the disk stands at an odd place in the metadata");
        }
    }

    /// <summary>Changes the size, durably.</summary>
    private async ValueTask SetSizeAsync(long length)
    {
        long key = image.Metadata.DiskSizePlace & -(long)VhdxLayout.LogSectorSize;
        int index = (int)(image.Metadata.DiskSizePlace - key) / sizeof(ulong);
        await writer.ChangeAsync([key], () =>
        {
            TableSlice slice = image.Tables.Find(key)!;
            slice.BeginChange();
            slice.SetWord(index, (ulong)length);
            slice.EndChange();
            image.Tables.MarkDirty(slice);
            map.Length = length;
        }).ConfigureAwait(false);
        await writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>A last block may end with the disk in the file; the file gets long enough for all of it.</summary>
    private async ValueTask CompleteLastBlockAsync(long guestOffset, CancellationToken cancellationToken)
    {
        ulong entry = await map.ReadEntryAsync(_geometry.EntryOf(guestOffset >> _geometry.BlockBits))
            .ConfigureAwait(false);
        long end = VhdxMap.PlaceOf(entry) + _geometry.BlockSize;
        if (VhdxMap.StateOf(entry) is VhdxState.FullyPresent or VhdxState.PartiallyPresent && end > image.File.Length)
        {
            await writer.Session.Space.GrowToAsync(end, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Sets the entries that only the larger of two sizes has: zero, or for a fixed disk that grows new places. When it
    /// shrinks they become nothing, and payload places free. Places of bitmaps stay taken until the image is opened
    /// again: an older entry of the log could write them once more.
    /// </summary>
    private async ValueTask ChangeEntriesAsync(
        long smaller, long larger, bool shrinks, CancellationToken cancellationToken)
    {
        const int PerPiece = VhdxLayout.LogSectorSize / sizeof(ulong);
        long firstBlock = _geometry.BlocksOf(smaller);
        long first = firstBlock == 0 ? 0 : Math.Min(_geometry.EntryOf(firstBlock), _geometry.EntriesOf(smaller));
        long end = _geometry.EntriesOf(larger);
        for (long at = first; at < end;)
        {
            long next = Math.Min(end, (at / PerPiece + 1) * PerPiece);
            var values = new List<(long Entry, ulong Value)>();
            for (long entry = at; entry < next; entry++)
            {
                bool isBitmap = _geometry.IsBitmapEntry(entry);
                if (isBitmap && entry < _geometry.EntriesOf(smaller))
                {
                    continue; // The bitmap of a chunk that stays in part.
                }

                values.Add((entry, isBitmap || shrinks ? 0 : (ulong)VhdxState.Zero));
            }

            if (image.Metadata.LeaveBlocksAllocated && !shrinks)
            {
                await AllocateAsync(values, cancellationToken).ConfigureAwait(false);
            }

            await SetAsync(values, shrinks).ConfigureAwait(false);
            at = next;
        }
    }

    private async ValueTask AllocateAsync(List<(long Entry, ulong Value)> values, CancellationToken cancellationToken)
    {
        int done = 0;
        try
        {
            for (; done < values.Count; done++)
            {
                if (values[done].Value == 0)
                {
                    continue;
                }

                (long host, bool zero) = await writer.Session.Space
                    .ReserveAsync(_geometry.BlockSize, cancellationToken).ConfigureAwait(false);
                values[done] = (values[done].Entry, (ulong)host | (ulong)VhdxState.FullyPresent);
                if (!zero)
                {
                    await image.File.ZeroAsync(host, _geometry.BlockSize, ZeroFlags.None, cancellationToken)
                        .ConfigureAwait(false);
                }
            }
        }
        catch
        {
            foreach ((_, ulong value) in values.Where(v => VhdxMap.StateOf(v.Value) == VhdxState.FullyPresent))
            {
                writer.Session.Space.Return(VhdxMap.PlaceOf(value), _geometry.BlockSize);
            }

            throw;
        }
    }

    private async ValueTask SetAsync(List<(long Entry, ulong Value)> values, bool shrinks)
    {
        if (values.Count == 0)
        {
            return;
        }

        long key = image.BatKey(values[0].Entry);
        await writer.ChangeAsync([key], () =>
        {
            TableSlice slice = image.Tables.Find(key)!;
            foreach ((long entry, _) in values)
            {
                ulong old = slice.Word(VhdxImage.BatIndex(entry));
                if (shrinks && !_geometry.IsBitmapEntry(entry) && VhdxUsage.HasPlace(old, isBitmap: false))
                {
                    writer.Flush.Free(VhdxMap.PlaceOf(old), _geometry.BlockSize);
                }
            }

            writer.SetEntries(key, values);
        }).ConfigureAwait(false);
    }
}
