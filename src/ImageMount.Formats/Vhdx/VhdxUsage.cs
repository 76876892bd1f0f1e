using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Which MiB of the file are in use, found by reading the whole BAT: what the allocator and the check start from.
/// Nothing else in the format says it.
/// </summary>
internal sealed class VhdxUsage
{
    private const int ReadSize = 1 << 20;

    private readonly ulong[] _used;
    private readonly long _units;
    private readonly long _fileLength;

    private VhdxUsage(long fileLength)
    {
        if (fileLength > VhdxLayout.MaxWrittenFile)
        {
            throw BlockException.Limit("the file is too large", fileLength, VhdxLayout.MaxWrittenFile);
        }

        _fileLength = fileLength;
        _units = (fileLength + VhdxLayout.MiB - 1) / VhdxLayout.MiB;
        _used = new ulong[(_units / 64) + 1];
    }

    /// <summary>
    /// Where the last block would end that begins in the file: a block may be cut off by the end of the file where the
    /// disk ends in it, and what it lacks is its own.
    /// </summary>
    public long NominalEnd { get; private set; }

    /// <summary>MiB of the file, the last one perhaps not whole.</summary>
    public long Units => _units;

    /// <summary>Reads the BAT and marks everything that is in use.</summary>
    /// <param name="image">The image; what is cached of its BAT must have been written.</param>
    /// <param name="diskSize">Size of the disk, bytes.</param>
    /// <param name="visit">Called with each entry's index, the entry, and whether its place was in use already.</param>
    /// <param name="cancellationToken">Stops reading.</param>
    public static async ValueTask<VhdxUsage> ReadAsync(
        VhdxImage image, long diskSize, Action<long, ulong, bool> visit, CancellationToken cancellationToken)
    {
        var usage = new VhdxUsage(image.File.Length);
        foreach (VhdxRegion region in image.Regions.Structures)
        {
            usage.Mark(region.Offset, region.Length);
        }

        long entries = image.Geometry.EntriesOf(diskSize);
        using BufferLease bytes = BufferPool.Shared.Rent(ReadSize);
        for (long at = 0; at < entries * sizeof(ulong); at += ReadSize)
        {
            int count = (int)Math.Min(ReadSize, (entries * sizeof(ulong)) - at);
            await image.File.ReadAsync(image.Regions.Bat.Offset + at, bytes.Memory[..count], cancellationToken)
                .ConfigureAwait(false);
            usage.Visit(image.Geometry, at / sizeof(ulong), bytes.Span[..count], visit);
        }

        return usage;
    }

    /// <summary>True when a MiB of the file is in use.</summary>
    public bool IsUsed(long unit) => (_used[unit / 64] >> (int)(unit % 64) & 1) != 0;

    /// <summary>True when an entry says that a place in the file belongs to its block.</summary>
    public static bool HasPlace(ulong entry, bool isBitmap) => VhdxMap.StateOf(entry) switch
    {
        VhdxState.FullyPresent => true,
        VhdxState.PartiallyPresent => !isBitmap,

        // Other programs may have left the block's old content there, and come back to it.
        VhdxState.Undefined or VhdxState.Unmapped => !isBitmap && VhdxMap.PlaceOf(entry) != 0,
        _ => false,
    };

    private void Visit(VhdxGeometry geometry, long first, ReadOnlySpan<byte> bytes, Action<long, ulong, bool> visit)
    {
        ReadOnlySpan<Le64> entries = MemoryMarshal.Cast<byte, Le64>(bytes);
        for (int i = 0; i < entries.Length; i++)
        {
            ulong entry = entries[i];
            if (entry == 0)
            {
                continue;
            }

            bool isBitmap = geometry.IsBitmapEntry(first + i);
            bool wasUsed = HasPlace(entry, isBitmap)
                && Mark(VhdxMap.PlaceOf(entry), isBitmap ? VhdxLayout.MiB : geometry.BlockSize);
            visit(first + i, entry, wasUsed);
        }
    }

    /// <summary>Marks a range; true when part of it was marked before. Not what lies outside the file.</summary>
    private bool Mark(long offset, long count)
    {
        bool wasUsed = false;
        if (offset >= 0 && offset < _fileLength)
        {
            NominalEnd = Math.Max(NominalEnd, offset + count);
        }

        long end = Math.Min(_units, (offset >> 20) + ((count + VhdxLayout.MiB - 1) >> 20));
        for (long unit = Math.Max(0, offset >> 20); unit < end; unit++)
        {
            ref ulong word = ref _used[unit / 64];
            ulong bit = 1UL << (int)(unit % 64);
            wasUsed |= (word & bit) != 0;
            word |= bit;
        }

        return wasUsed;
    }
}
