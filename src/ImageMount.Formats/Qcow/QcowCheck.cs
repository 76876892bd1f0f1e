using ImageMount.Core.Info;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qcow;

/// <summary>
/// The check of an image: tables and clusters lie inside the file and not over one another. Space that nothing names is
/// not reported: the format keeps no account of it.
/// </summary>
internal static class QcowCheck
{
    /// <summary>Checks the file.</summary>
    public static async ValueTask<CheckReport> RunAsync(
        ClusterImage image, QcowHeader header, CancellationToken cancellationToken)
    {
        var check = new ClusterCheck(image, header.Size, QcowLayout.Sector);
        long l1Size = (long)header.L1Entries * sizeof(ulong);
        if (header.L1Offset < QcowLayout.Sector || l1Size == 0)
        {
            check.Note("the header", 0, Math.Max(QcowLayout.HeaderSize, header.L1Offset + l1Size));
        }
        else
        {
            check.Note("the header", 0, QcowLayout.HeaderSize);
            check.Note("the L1 table", header.L1Offset, l1Size);
        }

        await check.RunAsync(cancellationToken).ConfigureAwait(false);
        return check.Report;
    }
}
