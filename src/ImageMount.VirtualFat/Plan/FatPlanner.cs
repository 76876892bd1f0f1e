using System.Security.Cryptography;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// Makes the plan of a disk: scans the folder, chooses the geometry, and hands out clusters one after the other: first to
/// the folders, so that all directories lie together, then to the files, folder by folder.
/// </summary>
internal static class FatPlanner
{
    /// <summary>Makes a plan.</summary>
    /// <param name="host">The folder.</param>
    /// <param name="options">What the user wants.</param>
    /// <param name="zone">Whose time directory entries show.</param>
    /// <param name="warn">Told what is left out or changed.</param>
    /// <param name="cancellationToken">Stops the scan.</param>
    public static FatPlan Make(
        HostFolder host, VirtualFatOptions options, TimeZoneInfo zone, Action<string> warn,
        CancellationToken cancellationToken)
    {
        ShortName83? label = VolumeLabel.Parse(options.Label);
        EntryTable table = Scan(host, options, zone, label, warn, cancellationToken);
        FatGeometry geometry = GeometryChooser.Choose(options, NeededFor(table));
        return Lay(table, geometry, IdentityOf(host, label, table));
    }

    /// <summary>Makes a plan of the folder as it is now for a disk that is there already; null when it does not fit.
    /// </summary>
    public static FatPlan? Remake(
        HostFolder host, VirtualFatOptions options, FatGeometry geometry, TimeZoneInfo zone, Action<string> warn,
        CancellationToken cancellationToken)
    {
        ShortName83? label = VolumeLabel.Parse(options.Label);
        EntryTable table = Scan(host, options, zone, label, warn, cancellationToken);
        SpaceNeeded needed = NeededFor(table);
        bool fits = needed.Clusters(geometry.Type, geometry.ClusterSize) <= geometry.ClusterCount
            && (geometry.Type == FatType.Fat32 || needed.RootEntries <= geometry.RootEntries);
        return fits ? Lay(table, geometry, IdentityOf(host, label, table)) : null;
    }

    private static EntryTable Scan(
        HostFolder host, VirtualFatOptions options, TimeZoneInfo zone, ShortName83? label, Action<string> warn,
        CancellationToken cancellationToken)
    {
        var report = new ScanReport(options.Unsupported);
        try
        {
            EntryTable table = FolderScan.Run(host, report, zone, label is not null, cancellationToken);
            report.Finish(warn);
            return table;
        }
        catch (OperationCanceledException e)
        {
            throw new BlockException(BlockErrorKind.Cancelled, "the scan of the folder was cancelled", e);
        }
    }

    private static SpaceNeeded NeededFor(EntryTable table) => new(
        clusterSize =>
        {
            long clusters = 0;
            for (int entry = 1; entry < table.Count; entry++)
            {
                clusters += (table[entry].Size + (long)clusterSize - 1) / clusterSize;
            }

            return clusters;
        },
        table[0].Size / FatLayout.DirectoryEntrySize);

    private static FatPlan Lay(EntryTable table, FatGeometry geometry, VolumeIdentity volume)
    {
        var owners = new List<int>(table.Count);
        uint next = FatLayout.FirstCluster;
        void Give(int entry, uint clusters)
        {
            if (clusters > 0)
            {
                table[entry].FirstCluster = next;
                owners.Add(entry);
                next += clusters;
            }
        }

        if (geometry.Type == FatType.Fat32)
        {
            Give(0, Math.Max(1, geometry.ClustersFor(table[0].Size)));
        }

        for (int pass = 0; pass < 2; pass++)
        {
            for (int entry = 1; entry < table.Count; entry++)
            {
                bool isFolder = (table[entry].Attributes & FatAttributes.Directory) != 0;
                if (isFolder == (pass == 0))
                {
                    Give(entry, geometry.ClustersFor(table[entry].Size));
                }
            }
        }

        return new FatPlan(geometry, table, [.. owners], next - FatLayout.FirstCluster, volume);
    }

    /// <summary>
    /// The ids come from the folder's path without links, so that they are the same whenever the same folder is shown,
    /// also after restarts, which give devices other numbers.
    /// </summary>
    private static VolumeIdentity IdentityOf(HostFolder host, ShortName83? label, EntryTable table)
    {
        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes("imgmount vvfat\0" + host.RealPath));
        return new VolumeIdentity(
            label, BitConverter.ToUInt32(hash, 0), BitConverter.ToUInt32(hash, 4) | 1, table[0].Times);
    }
}
