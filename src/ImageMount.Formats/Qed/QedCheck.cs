using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qed;

/// <summary>
/// The check of an image ("Consistency checking"), and the repair of one that was not closed: entries that lead nowhere
/// become unallocated, clusters that nothing names are free again. What is used twice cannot be repaired.
/// </summary>
internal static class QedCheck
{
    /// <summary>Checks the file.</summary>
    public static async ValueTask<CheckReport> RunAsync(
        ClusterImage image, QedHeader header, long length, CancellationToken cancellationToken)
    {
        ClusterCheck check = Start(image, header, length, repairs: false);
        await check.RunAsync(cancellationToken).ConfigureAwait(false);
        long clusters = (image.File.Length + header.Geometry.ClusterSize - 1) >> header.Geometry.ClusterBits;
        long leaks = clusters - check.Marks.Count;
        if (leaks > 0 && check.Report.Corruptions == 0)
        {
            check.Report.Leak($"nothing refers to {leaks} of the file's {clusters} clusters", leaks);
        }

        return check.Report;
    }

    /// <summary>Repairs the file, and gives the clusters that are free. Durable when the task completes.</summary>
    /// <exception cref="BlockException">InvalidData: there is damage that cannot be repaired.</exception>
    public static async ValueTask<IReadOnlyList<(long First, long Count)>> RepairAsync(
        ClusterImage image, QedHeader header, CancellationToken cancellationToken)
    {
        ClusterCheck check = Start(image, header, header.Size, repairs: true);
        await check.RunAsync(cancellationToken).ConfigureAwait(false);
        if (check.Report is not { Corruptions: 0, CheckErrors: 0 })
        {
            throw new BlockException(
                BlockErrorKind.InvalidData,
                $"the image was not closed and is damaged beyond repair ({check.Report.Problems[0]})")
            {
                Hint = "Open it with --read-only.",
            };
        }

        await image.File.FlushAsync(cancellationToken).ConfigureAwait(false);
        long end = header.Geometry.RoundUp(check.End);
        if (end < image.File.Length)
        {
            // Nothing names what is cut off, durably so since the flush.
            await image.File.TryResizeAsync(end, cancellationToken).ConfigureAwait(false);
        }

        long clusters = image.File.Length >> header.Geometry.ClusterBits;
        return [.. check.Marks.Gaps(clusters)];
    }

    private static ClusterCheck Start(ClusterImage image, QedHeader header, long length, bool repairs)
    {
        var check = new ClusterCheck(image, length, header.Geometry.ClusterSize) { Repairs = repairs };
        check.Note("the header", 0, header.HeaderBytes);
        check.Note("the L1 table", header.L1Offset, header.Geometry.L2Size);
        return check;
    }
}
