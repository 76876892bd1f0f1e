using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>Puts what was written into the cached tables: BAT entries and bits of sector bitmaps.</summary>
internal sealed class VhdxPublisher(VhdxImage image, VhdxMap map)
{
    private readonly VhdxGeometry _geometry = image.Geometry;

    /// <summary>Where the block of a lease for sectors begins in the file.</summary>
    public long BlockHost(VhdxLease lease) => lease.HostStart - (lease.GuestStart & (_geometry.BlockSize - 1));

    /// <summary>Sets BAT entries of one piece; under the lock, the piece at hand.</summary>
    public void SetEntries(long batKey, IEnumerable<(long Entry, ulong Value)> changes)
    {
        TableSlice slice = image.Tables.Find(batKey)!;
        slice.BeginChange();
        foreach ((long entry, ulong value) in changes)
        {
            slice.SetWord(VhdxImage.BatIndex(entry), value);
        }

        slice.EndChange();
        image.Tables.MarkDirty(slice);
    }

    /// <summary>
    /// The pieces of the bitmap that a lease changes: of its sectors, and for a block that is new all of the block's,
    /// where other programs may have left bits.
    /// </summary>
    public async ValueTask<long[]> BitmapKeysAsync(VhdxLease lease)
    {
        long block = lease.GuestStart >> _geometry.BlockBits;
        ulong entry = await map.ReadEntryAsync(_geometry.BitmapEntryOf(block)).ConfigureAwait(false);
        long place = map.BitmapPlace(entry, lease.GuestStart, image.File.Length);
        bool isNew = lease.Kind == VhdxLeaseKind.FirstSectors;
        long first = isNew ? block << _geometry.BlockBits : lease.GuestStart;
        long last = (isNew ? (block + 1) << _geometry.BlockBits : lease.GuestEnd) - 1;
        long firstKey = map.BitmapKey(place, first);
        long pieces = ((map.BitmapKey(place, last) - firstKey) / VhdxLayout.LogSectorSize) + 1;
        var keys = new long[pieces];
        for (int i = 0; i < pieces; i++)
        {
            keys[i] = firstKey + ((long)i * VhdxLayout.LogSectorSize);
        }

        return keys;
    }

    /// <summary>Bits first, then the BAT entry that makes readers look at them; under the lock.</summary>
    public void Publish(VhdxLease lease, long batKey, long[] bitmapKeys)
    {
        long block = lease.GuestStart >> _geometry.BlockBits;
        switch (lease.Kind)
        {
            case VhdxLeaseKind.Blocks:
                long blocks = (lease.GuestEnd - lease.GuestStart) >> _geometry.BlockBits;
                SetEntries(batKey, Enumerable.Range(0, (int)blocks).Select(i => (
                    _geometry.EntryOf(block + i),
                    (ulong)(lease.HostStart + ((long)i * _geometry.BlockSize)) | (ulong)VhdxState.FullyPresent)));
                break;
            case VhdxLeaseKind.FirstSectors:
                long blockStart = block << _geometry.BlockBits;
                FillBits(bitmapKeys, _geometry.BitOf(blockStart), _geometry.SectorsPerBlock, false);
                FillBits(bitmapKeys, lease);
                SetEntries(batKey, [(
                    _geometry.EntryOf(block), (ulong)BlockHost(lease) | (ulong)VhdxState.PartiallyPresent)]);
                break;
            default:
                FillBits(bitmapKeys, lease);
                if (IsComplete(block, bitmapKeys[0] - PieceOffset(_geometry.BitOf(lease.GuestStart))))
                {
                    SetEntries(batKey, [(
                        _geometry.EntryOf(block), (ulong)BlockHost(lease) | (ulong)VhdxState.FullyPresent)]);
                }

                break;
        }
    }

    private static long PieceOffset(long bit) => bit / VhdxBitmaps.BitsPerPiece * VhdxLayout.LogSectorSize;

    private void FillBits(long[] keys, VhdxLease lease) => FillBits(
        keys, _geometry.BitOf(lease.GuestStart), (lease.GuestEnd - lease.GuestStart) >> _geometry.SectorBits, true);

    private void FillBits(long[] keys, long first, long count, bool value)
    {
        // The keys begin at the piece of the first bit, or of the block's first bit.
        long inBitmap = PieceOffset(first);
        long keyOfFirst = Array.Find(keys, key => (key & (VhdxLayout.MiB - 1)) == inBitmap);
        while (count > 0)
        {
            int inPiece = (int)(first % VhdxBitmaps.BitsPerPiece);
            int step = (int)Math.Min(count, VhdxBitmaps.BitsPerPiece - inPiece);
            TableSlice piece = image.Tables.Find(keyOfFirst)!;
            piece.BeginChange();
            VhdxBitmaps.Fill(piece, inPiece, step, value);
            piece.EndChange();
            image.Tables.MarkDirty(piece);
            keyOfFirst += VhdxLayout.LogSectorSize;
            first += step;
            count -= step;
        }
    }

    /// <summary>True when all sectors of a block are here, as far as the pieces at hand say.</summary>
    private bool IsComplete(long block, long bitmapPlace)
    {
        long blockStart = block << _geometry.BlockBits;
        long left = (Math.Min(blockStart + _geometry.BlockSize, map.Length) - blockStart) >> _geometry.SectorBits;
        for (long bit = _geometry.BitOf(blockStart); left > 0;)
        {
            int inPiece = (int)(bit % VhdxBitmaps.BitsPerPiece);
            int step = (int)Math.Min(left, VhdxBitmaps.BitsPerPiece - inPiece);
            if (image.Tables.Find(bitmapPlace + PieceOffset(bit)) is not { } piece
                || !VhdxBitmaps.AreSet(piece, inPiece, step))
            {
                return false;
            }

            bit += step;
            left -= step;
        }

        return true;
    }
}
