using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Guest ranges to runs: the BAT says for each block whether it is here, zero, or the parent's; where it is here in
/// part, the chunk's sector bitmap says it for each sector. A lookup of cached pieces takes no lock: it reads the BAT
/// entry first and the bitmap after it, while changes set them the other way round.
/// </summary>
internal sealed class VhdxMap(VhdxImage image) : IExtentMap
{
    private const int WordBits = 64;
    private const int SliceBits = VhdxLayout.LogSectorSize * 8;

    private readonly TableCache _tables = image.Tables;
    private readonly VhdxGeometry _geometry = image.Geometry;
    private long _length = image.Metadata.DiskSize;

    /// <inheritdoc/>
    public long Length
    {
        get => Volatile.Read(ref _length);
        set => Volatile.Write(ref _length, value);
    }

    /// <inheritdoc/>
    public BlockNode? Backing => image.Backing;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        TryLookup(guestOffset, count, out MappedRun run) ? new(run) : LookupSlowlyAsync(guestOffset, count);

    /// <summary>The run at an offset, when the pieces that say it are cached and not just being changed.</summary>
    public bool TryLookup(long guestOffset, long count, out MappedRun run)
    {
        run = default;
        long block = guestOffset >> _geometry.BlockBits;
        long entryIndex = _geometry.EntryOf(block);
        long key = image.BatKey(entryIndex);
        TableSlice? slice = _tables.TryFind(key);
        if (slice is null || !slice.TryBeginRead(key, out int version))
        {
            return false;
        }

        int index = VhdxImage.BatIndex(entryIndex);
        ulong entry = slice.Word(index);
        long inBlock = guestOffset & (_geometry.BlockSize - 1);
        long length = Math.Min(count, _geometry.BlockSize - inBlock);
        RunKind kind = KindOf(entry);
        long fileLength = image.File.Length;
        if (kind != RunKind.Compressed)
        {
            length = Join(slice, block, length, count, entry, fileLength);
        }

        if (!slice.EndRead(version))
        {
            return false;
        }

        switch (kind)
        {
            case RunKind.Data:
                long host = PlaceOf(entry) + inBlock;
                CheckPlace(host, length, fileLength, guestOffset);
                run = MappedRun.Data(length, image.File, host);
                return true;
            case RunKind.Zero:
                run = MappedRun.Zero(length);
                return true;
            case RunKind.Parent:
                run = MappedRun.Parent(length);
                return true;
            default:
                CheckState(entry, guestOffset);
                return TryLookupPartial(guestOffset, length, PlaceOf(entry) + inBlock, fileLength, out run);
        }
    }

    /// <summary>Reads the pieces that a lookup at an offset needs.</summary>
    public async ValueTask LoadAsync(long guestOffset)
    {
        long block = guestOffset >> _geometry.BlockBits;
        ulong entry = await ReadEntryAsync(_geometry.EntryOf(block)).ConfigureAwait(false);
        if (_geometry.HasParent && StateOf(entry) == VhdxState.PartiallyPresent)
        {
            ulong bitmap = await ReadEntryAsync(_geometry.BitmapEntryOf(block)).ConfigureAwait(false);
            long place = BitmapPlace(bitmap, guestOffset, image.File.Length);
            await _tables.GetAsync(BitmapKey(place, guestOffset)).ConfigureAwait(false);
        }
    }

    /// <summary>A BAT entry, as the cache has it.</summary>
    public async ValueTask<ulong> ReadEntryAsync(long entry)
    {
        long key = image.BatKey(entry);
        while (true)
        {
            await _tables.GetAsync(key).ConfigureAwait(false);
            lock (image.Sync)
            {
                if (_tables.Find(key) is { } slice)
                {
                    return slice.Word(VhdxImage.BatIndex(entry));
                }
            }
        }
    }

    /// <summary>The piece of the sector bitmap with the bit of an offset.</summary>
    public long BitmapKey(long bitmapPlace, long guestOffset) =>
        bitmapPlace + (_geometry.BitOf(guestOffset) / SliceBits * VhdxLayout.LogSectorSize);

    /// <summary>The place of a sector bitmap block, checked.</summary>
    public long BitmapPlace(ulong entry, long guestOffset, long fileLength)
    {
        if ((entry & VhdxLayout.StateMask) != (ulong)VhdxState.FullyPresent)
        {
            throw BlockException.Invalid(
                "a block is present in part, but its sector bitmap is missing", null,
                $"guest offset 0x{guestOffset:x}, bitmap entry 0x{entry:x}");
        }

        long place = PlaceOf(entry);
        CheckPlace(place, VhdxLayout.MiB, fileLength, guestOffset);
        return place;
    }

    /// <summary>State of a BAT entry; may be one that does not exist.</summary>
    public static VhdxState StateOf(ulong entry) => (VhdxState)(entry & VhdxLayout.StateMask);

    /// <summary>Place of a BAT entry, bytes; negative when it is impossible.</summary>
    public static long PlaceOf(ulong entry) => (long)(entry & VhdxLayout.PlaceMask);

    /// <summary>Refuses a place that is not for blocks: outside the file, or over the metadata.</summary>
    public void CheckPlace(long host, long count, long fileLength, long guestOffset)
    {
        if (host < VhdxLayout.HeaderSectionSize || host > fileLength - count || image.Regions.Overlaps(host, count))
        {
            throw BlockException.Invalid(
                "a block lies outside the file or over its metadata", host,
                $"0x{host:x}+0x{count:x} for guest offset 0x{guestOffset:x}", $"in a file of 0x{fileLength:x} bytes");
        }
    }

    /// <summary>What a state means for reading; Compressed stands for "look closer".</summary>
    private RunKind KindOf(ulong entry) => StateOf(entry) switch
    {
        VhdxState.FullyPresent => RunKind.Data,
        VhdxState.NotPresent => _geometry.HasParent ? RunKind.Parent : RunKind.Zero,
        VhdxState.Undefined or VhdxState.Zero or VhdxState.Unmapped => RunKind.Zero,
        _ => RunKind.Compressed,
    };

    /// <summary>Adds the blocks that follow in the same piece and go on in the same way.</summary>
    private long Join(TableSlice slice, long block, long length, long count, ulong entry, long fileLength)
    {
        RunKind kind = KindOf(entry);
        long key = image.BatKey(_geometry.EntryOf(block));
        long place = PlaceOf(entry);
        while (length < count)
        {
            long next = _geometry.EntryOf(++block);
            if (image.BatKey(next) != key)
            {
                break;
            }

            ulong other = slice.Word(VhdxImage.BatIndex(next));
            long step = Math.Min(_geometry.BlockSize, count - length);
            place += _geometry.BlockSize;
            bool isData = kind == RunKind.Data;
            if (KindOf(other) != kind || (isData
                && (PlaceOf(other) != place || place > fileLength - step || image.Regions.Overlaps(place, step))))
            {
                break;
            }

            length += step;
        }

        return length;
    }

    private void CheckState(ulong entry, long guestOffset)
    {
        if (StateOf(entry) != VhdxState.PartiallyPresent || !_geometry.HasParent)
        {
            throw BlockException.Invalid(
                "a block has a state that does not exist for this disk", null,
                $"BAT entry 0x{entry:x} for guest offset 0x{guestOffset:x}");
        }
    }

    private bool TryLookupPartial(long guestOffset, long length, long host, long fileLength, out MappedRun run)
    {
        run = default;
        long bitmapEntry = _geometry.BitmapEntryOf(guestOffset >> _geometry.BlockBits);
        long batKey = image.BatKey(bitmapEntry);
        TableSlice? bat = _tables.TryFind(batKey);
        if (bat is null || !bat.TryBeginRead(batKey, out int version))
        {
            return false;
        }

        ulong entry = bat.Word(VhdxImage.BatIndex(bitmapEntry));
        if (!bat.EndRead(version))
        {
            return false;
        }

        long key = BitmapKey(BitmapPlace(entry, guestOffset, fileLength), guestOffset);
        TableSlice? bits = _tables.TryFind(key);
        if (bits is null || !bits.TryBeginRead(key, out version))
        {
            return false;
        }

        long inSector = guestOffset & (_geometry.SectorSize - 1);
        int first = (int)(_geometry.BitOf(guestOffset) % SliceBits);
        int most = (int)Math.Min(
            SliceBits - first, (inSector + length + _geometry.SectorSize - 1) >> _geometry.SectorBits);
        int sectors = CountSame(bits, first, most, out bool isHere);
        if (!bits.EndRead(version))
        {
            return false;
        }

        length = Math.Min(length, ((long)sectors << _geometry.SectorBits) - inSector);
        if (isHere)
        {
            CheckPlace(host, length, fileLength, guestOffset);
        }

        run = isHere ? MappedRun.Data(length, image.File, host) : MappedRun.Parent(length);
        return true;
    }

    /// <summary>Counts the bits from one on that are as that one.</summary>
    private static int CountSame(TableSlice bits, int first, int most, out bool isSet)
    {
        isSet = (bits.Word(first / WordBits) >> (first % WordBits) & 1) != 0;
        int count = 0;
        while (count < most)
        {
            int bit = first + count;
            ulong word = bits.Word(bit / WordBits) >> (bit % WordBits);
            int inWord = WordBits - (bit % WordBits);
            int same = Math.Min(inWord, BitOperations.TrailingZeroCount(isSet ? ~word : word));
            count += same;
            if (same < inWord)
            {
                break;
            }
        }

        return Math.Min(count, most);
    }

    private async ValueTask<MappedRun> LookupSlowlyAsync(long guestOffset, long count)
    {
        while (true)
        {
            await LoadAsync(guestOffset).ConfigureAwait(false);
            if (TryLookup(guestOffset, count, out MappedRun run))
            {
                return run;
            }
        }
    }
}
