using System.Numerics;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.BlockTables;

/// <summary>
/// What a format says of its one flat table: 32-bit entries, each of which names the place of a unit of the disk, or
/// says that there is none. Places are linear in the entry, so that the entry is a number of sectors, of units or of
/// anything else.
/// </summary>
internal sealed record BlockTableLayout
{
    /// <summary>Most entries of a table: 128 MiB of it, 32 TiB of disk in units of 1 MiB.</summary>
    public const int MaxEntries = 1 << 25;

    /// <summary>Largest unit, bytes.</summary>
    public const int MaxUnitSize = 256 << 20;

    /// <summary>The file.</summary>
    public required BlockNode Node { get; init; }

    /// <summary>What messages call a unit: "block", "cluster".</summary>
    public required string UnitName { get; init; }

    /// <summary>Size of the disk, bytes; the table covers it.</summary>
    public required long Length { get; init; }

    /// <summary>Bytes of the disk in a unit; a multiple of 512.</summary>
    public required int UnitSize { get; init; }

    /// <summary>Where the table begins; it lies inside the file.</summary>
    public required long TableOffset { get; init; }

    /// <summary>Its entries.</summary>
    public required int Entries { get; init; }

    /// <summary>Entries are stored big-endian.</summary>
    public bool IsBigEndian { get; init; }

    /// <summary>Place of a unit: this, and <see cref="EntryScale"/> for each one of its entry.</summary>
    public long EntryBase { get; init; }

    /// <summary>Bytes between the places of successive entries; divides <see cref="Footprint"/>.</summary>
    public required long EntryScale { get; init; }

    /// <summary>Bytes before a unit's payload that are stored with it (a sector bitmap).</summary>
    public int LeadSize { get; init; }

    /// <summary>Entry of a unit that is not stored: the parent's, or zeroes.</summary>
    public required uint FreeEntry { get; init; }

    /// <summary>Entry of a unit that reads as zeroes whatever the parent has; null where the format has none.</summary>
    public uint? ZeroEntry { get; init; }

    /// <summary>Largest entry that can name a place.</summary>
    public required uint MaxEntry { get; init; }

    /// <summary>Ranges of the file that hold metadata, so no unit.</summary>
    public required IReadOnlyList<(long Start, long End)> Reserved { get; init; }

    /// <summary>Bytes in the file for a unit, with what is stored before it.</summary>
    public int Footprint => LeadSize + UnitSize;

    /// <summary>Entries from a unit's place to the next place right behind it.</summary>
    public uint Step => (uint)(Footprint / EntryScale);

    /// <summary>Bytes of the table.</summary>
    public long TableSize => (long)Entries * sizeof(uint);

    /// <summary>Units that the disk has; the table may have more entries.</summary>
    public long Units => (Length + UnitSize - 1) / UnitSize;

    /// <summary>What an entry means.</summary>
    public RunKind KindOf(uint entry) =>
        entry == FreeEntry ? RunKind.Parent : entry == ZeroEntry ? RunKind.Zero : RunKind.Data;

    /// <summary>Where a stored unit begins, with what stands before its payload.</summary>
    public long PlaceOf(uint entry) => EntryBase + (entry * EntryScale);

    /// <summary>Where the payload of a stored unit begins.</summary>
    public long HostOf(uint entry) => PlaceOf(entry) + LeadSize;

    /// <summary>The entry for a place.</summary>
    public uint EntryOf(long place) => (uint)((place - EntryBase) / EntryScale);

    /// <summary>True when a range of the file has metadata in it.</summary>
    public bool IsMetadata(long host, long count)
    {
        foreach ((long start, long end) in Reserved)
        {
            if (host < end && start < host + count)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Checks what every format's table must fulfil; called before anything is read through it.</summary>
    /// <exception cref="BlockException">LimitExceeded or InvalidData.</exception>
    public void Validate()
    {
        if (Entries > MaxEntries)
        {
            throw BlockException.Limit("the allocation table is too large", Entries, MaxEntries);
        }

        if (UnitSize is < 512 or > MaxUnitSize || UnitSize % 512 != 0 || Footprint % EntryScale != 0)
        {
            throw BlockException.Invalid(
                $"the {UnitName} size is impossible", null, $"{UnitSize}", $"a multiple of 512 up to {MaxUnitSize}");
        }

        if (Length > (long)Entries * UnitSize)
        {
            throw BlockException.Invalid(
                "the allocation table does not cover the disk", null, $"{Entries} entries", $"at least {Units}");
        }

        if (TableOffset < 0 || TableOffset > Node.Length - TableSize)
        {
            throw BlockException.Invalid(
                "the allocation table lies outside the file", TableOffset, $"0x{TableSize:x} bytes",
                $"inside 0x{Node.Length:x}");
        }
    }

    /// <summary>Binary logarithm of the unit size; -1 when that is no power of two.</summary>
    public int UnitShift => BitOperations.IsPow2(UnitSize) ? BitOperations.Log2((uint)UnitSize) : -1;
}
