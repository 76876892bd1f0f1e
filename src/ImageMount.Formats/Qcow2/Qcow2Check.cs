using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// The consistency check of a qcow2 image: counts every reference to every cluster of the file (header, refcount table
/// and blocks, L1 and L2 tables of the disk and of each snapshot, snapshot table, bitmaps, guest data) and compares
/// the counts with those that the image stores. Verdict and numbers are those of the format's reference program.
/// </summary>
/// <remarks>
/// <para>A cluster referenced more often than its count is a corruption (a write would go through to somebody else's
/// data); one referenced less often is a leak (space that nobody uses). Beyond that: offsets that are unaligned or
/// outside the file, reserved bits, COPIED flags that disagree with the count, metadata that overlaps anything.</para>
/// <para>It only reads, and it reads the file: a device that writes has to put its tables there first, and guest
/// writes during the check may show up as mistakes. Memory: 3 bytes for each cluster in use, and a limit
/// (<see cref="Qcow2CheckCounts.MaxClusters"/>), above which the check refuses to run. Nothing recurses, and each table
/// is read once, however often it is named.</para>
/// <para>Not checked: the content of compressed clusters and of bitmaps, and the data file.</para>
/// </remarks>
public static class Qcow2Check
{
    /// <summary>Checks an image that nobody is writing.</summary>
    /// <param name="header">Its header.</param>
    /// <param name="file">The image file.</param>
    /// <param name="cancellationToken">Stops the check.</param>
    /// <exception cref="BlockException">LimitExceeded: more clusters in use than can be counted.</exception>
    public static ValueTask<CheckReport> RunAsync(
        Qcow2Header header, BlockNode file, CancellationToken cancellationToken) =>
        RunAsync(Qcow2CheckFacts.From(header), file, cancellationToken);

    private static async ValueTask<CheckReport> RunAsync(
        Qcow2CheckFacts facts, BlockNode file, CancellationToken cancellationToken)
    {
        var context = new Qcow2CheckContext(facts, file);
        CheckReport report = context.Report;
        report.TotalClusters = (facts.VirtualSize + facts.ClusterSize - 1) >> facts.ClusterBits;
        report.AllocatedClusters = 0;
        report.CompressedClusters = 0;
        report.FragmentedClusters = 0;

        var refcounts = new Qcow2CheckRefcounts(context);
        var directories = new Qcow2CheckDirectories(context);
        var tables = new Qcow2CheckTables(context, refcounts);
        context.AddReferences(0, facts.ClusterSize, ClusterUse.Header);
        context.AddReferences(facts.EncryptionOffset, facts.EncryptionLength, ClusterUse.EncryptionHeader);
        await refcounts.LoadAsync(cancellationToken).ConfigureAwait(false);
        List<CheckedSnapshot> snapshots = await directories.ReadSnapshotsAsync(cancellationToken).ConfigureAwait(false);

        await tables.CountTableAsync(facts.L1Offset, facts.L1Entries, "the disk", cancellationToken).ConfigureAwait(false);
        foreach (CheckedSnapshot snapshot in snapshots)
        {
            await tables.CountTableAsync(snapshot.L1Offset, snapshot.L1Entries, snapshot.Name, cancellationToken)
                .ConfigureAwait(false);
        }

        await tables.WalkAsync(facts.L1Offset, facts.L1Entries, isActive: true, cancellationToken).ConfigureAwait(false);
        foreach (CheckedSnapshot snapshot in snapshots)
        {
            await tables.WalkAsync(snapshot.L1Offset, snapshot.L1Entries, isActive: false, cancellationToken)
                .ConfigureAwait(false);
        }

        await directories.CheckBitmapsAsync(cancellationToken).ConfigureAwait(false);
        await refcounts.CompareAsync(cancellationToken).ConfigureAwait(false);
        report.ImageEndOffset = refcounts.End << facts.ClusterBits;
        return report;
    }
}
