using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vdi;

/// <summary>
/// Verifies that every block lies inside the file and alone, and that the header's counter is behind all of them: other
/// programs put the next new block where it points. A counter that is too large, or places between that no entry names,
/// are leaks.
/// </summary>
internal static class VdiCheck
{
    /// <summary>Runs the check; reads the header again, which another program may have written.</summary>
    public static async ValueTask<CheckReport> RunAsync(BlockTable table, CancellationToken cancellationToken)
    {
        var report = new CheckReport();
        VdiHeader header = await VdiHeader.ReadAsync(table.Layout.Node, cancellationToken).ConfigureAwait(false);
        BlockUsage usage = await BlockUsage.ScanAsync(table, report, cancellationToken).ConfigureAwait(false);
        long next = usage.Count == 0 ? 0 : usage.Entries[^1] + 1L;
        if (header.BlocksAllocated < next)
        {
            report.Corruption(
                $"the header counts {header.BlocksAllocated} blocks, but place {next - 1} is in use: "
                + "a new block would overwrite it");
        }
        else if (header.BlocksAllocated > next)
        {
            report.Leak(
                $"the header counts {header.BlocksAllocated} blocks, the last one in use is {next - 1}",
                header.BlocksAllocated - next);
        }

        long unused = next - usage.Count;
        if (unused > 0)
        {
            report.Leak($"{unused} places between the blocks are not in use", unused);
        }

        return report;
    }
}
