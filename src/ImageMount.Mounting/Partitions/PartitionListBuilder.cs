using System.Globalization;

namespace ImageMount.Mounting.Partitions;

/// <summary>
/// Collects partitions as a table gives them and brings them to what the disk can hold: entries that begin past its end
/// are left out, entries that end past it are clipped, overlaps are reported. Nothing here throws, whatever the
/// numbers.
/// </summary>
internal sealed class PartitionListBuilder(long diskLength)
{
    /// <summary>Most partitions that are shown; the table may promise more.</summary>
    public const int MaxPartitions = 1024;

    /// <summary>Most warnings that are kept.</summary>
    public const int MaxWarnings = 50;

    private readonly List<Partition> _partitions = [];
    private readonly List<string> _warnings = [];

    /// <summary>True when no more partitions are taken.</summary>
    public bool IsFull => _partitions.Count >= MaxPartitions;

    /// <summary>Partitions taken so far.</summary>
    public int Count => _partitions.Count;

    /// <summary>Keeps a warning while there is room.</summary>
    public void Warn(string warning)
    {
        if (_warnings.Count < MaxWarnings)
        {
            _warnings.Add(warning);
        }
    }

    /// <summary>Takes a partition given in sectors; sums and products that leave 64 bits are "past the end".</summary>
    public void Add(
        int number, ulong firstSector, ulong sectors, int sectorSize,
        (string Id, string? Name) type, string name, bool isBootable, bool isLogical)
    {
        ulong diskSectors = (ulong)(diskLength / sectorSize);
        if (firstSector >= diskSectors)
        {
            Warn(string.Create(
                CultureInfo.InvariantCulture,
                $"partition {number} begins at sector {firstSector}, past the end of the disk ")
                + string.Create(CultureInfo.InvariantCulture, $"({diskSectors} sectors): left out"));
            return;
        }

        if (sectors > diskSectors - firstSector)
        {
            ulong excess = sectors - (diskSectors - firstSector);
            Warn(string.Create(
                CultureInfo.InvariantCulture,
                $"partition {number} ends {excess} sectors past the end of the disk: clipped"));
            sectors = diskSectors - firstSector;
        }

        if (IsFull)
        {
            Warn($"the table has more than {MaxPartitions} partitions; the rest is left out");
            return;
        }

        _partitions.Add(new Partition(
            number, (long)firstSector * sectorSize, (long)sectors * sectorSize, type.Id, type.Name, name, isBootable,
            isLogical));
    }

    /// <summary>
    /// The finished table, with a warning for each partition that overlaps one before it on the disk.
    /// </summary>
    public PartitionTable Build(PartitionScheme scheme, int sectorSize)
    {
        Partition? reach = null;
        foreach (Partition partition in _partitions.OrderBy(p => p.Offset).ThenBy(p => p.Number))
        {
            if (reach is not null && partition.Offset < reach.End)
            {
                Warn($"partitions {reach.Number} and {partition.Number} overlap");
            }

            if (reach is null || partition.End > reach.End)
            {
                reach = partition;
            }
        }

        return new PartitionTable(scheme, sectorSize, [.. _partitions.OrderBy(p => p.Number)], _warnings);
    }
}
