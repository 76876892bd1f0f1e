using System.Buffers.Binary;
using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Verifies a SESPARSE extent: no grain table and no grain is used twice, entries are of a known type, grains lie inside
/// the file. The free bitmap and the back map, which only a writer needs, are not looked at.
/// </summary>
/// <param name="extent">The extent.</param>
/// <param name="report">Takes what is found.</param>
internal sealed class VmdkSeSparseCheck(VmdkSeSparseExtent extent, CheckReport report)
{
    private readonly VmdkMarks _marks = new(extent.Node.Length, VmdkSeSparseHeader.GrainSize);
    private readonly HashSet<uint> _seen = [];
    private long _previous = -1;

    /// <summary>Runs the check.</summary>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        long length = extent.GuestEnd - extent.GuestStart;
        report.TotalClusters += (length + VmdkSeSparseHeader.GrainSize - 1) / VmdkSeSparseHeader.GrainSize;
        using BufferLease table = BufferPool.Shared.Rent(VmdkSeSparseHeader.TableSize);
        for (int i = 0; i < extent.Tables.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            uint number = extent.Tables[i];
            if (number == 0)
            {
                continue;
            }

            if (!_seen.Add(number))
            {
                report.Corruption($"{extent.Node.Name}: grain table {number - 1} is used twice");
                continue;
            }

            long offset = extent.TableOffset(number);
            if (offset > extent.Node.Length - VmdkSeSparseHeader.TableSize)
            {
                report.Corruption($"{extent.Node.Name}: grain table {number - 1} lies outside the file");
                continue;
            }

            try
            {
                await extent.Node.ReadAsync(offset, table.Memory, cancellationToken).ConfigureAwait(false);
                CheckTable(table.Span, i * VmdkSeSparseHeader.TableCoverage, length);
            }
            catch (BlockException e)
            {
                report.Error($"grain table {number - 1}: {e.Describe()}");
            }
        }
    }

    private void CheckTable(ReadOnlySpan<byte> table, long start, long length)
    {
        for (int i = 0; i < VmdkSeSparseHeader.TableEntries; i++, start += VmdkSeSparseHeader.GrainSize)
        {
            ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(table[(i * sizeof(ulong))..]);
            string guest = "0x" + start.ToString("x", CultureInfo.InvariantCulture);
            if (!VmdkSeSparseExtent.TryDecode(entry, out RunKind kind, out long grain))
            {
                report.Corruption($"{extent.Node.Name}: the entry of {guest} is impossible (0x{entry:x})");
            }
            else if (kind == RunKind.Data)
            {
                CheckGrain(grain, guest, Math.Min(VmdkSeSparseHeader.GrainSize, length - start));
            }
        }
    }

    private void CheckGrain(long grain, string guest, long bytes)
    {
        report.AllocatedClusters++;
        report.FragmentedClusters = (report.FragmentedClusters ?? 0) + (_previous >= 0 && grain != _previous + 1 ? 1 : 0);
        _previous = grain;
        if (bytes <= 0)
        {
            report.Corruption($"{extent.Node.Name}: the entry of {guest}, after the end of the extent, is used");
        }
        else if (!extent.IsInside(grain, bytes))
        {
            report.Corruption($"{extent.Node.Name}: grain {grain} of {guest} lies outside the file");
        }
        else
        {
            long host = extent.Header.GrainsOffset + (grain * VmdkSeSparseHeader.GrainSize);
            report.ImageEndOffset = Math.Max(report.ImageEndOffset ?? 0, host + bytes);
            if (!_marks.TryTake(grain * VmdkSeSparseHeader.GrainSize))
            {
                report.Corruption($"{extent.Node.Name}: grain {grain} of {guest} is used twice");
            }
        }
    }
}
