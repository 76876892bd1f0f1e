using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Interop;
using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Journal;
using ImageMount.VirtualFat.Plan;
using ImageMount.VirtualFat.Synthesis;

namespace ImageMount.VirtualFat;

/// <summary>
/// A folder of the host as a disk that may be written. Everything that matters is in <see cref="FolderDisk"/>; here
/// are the block layer's words for it.
/// </summary>
internal sealed class WritableFatDevice : BlockDevice, IHasIdentity, ICommittable
{
    private readonly FatSynthesiser _plan;
    private readonly FolderDisk _disk;
    private readonly Action<string> _warn;

    /// <summary>Takes over plan and disk.</summary>
    public WritableFatDevice(FatSynthesiser plan, FolderDisk disk, Action<string> warn)
    {
        (_plan, _disk, _warn) = (plan, disk, warn);
        Length = plan.Plan.Geometry.TotalBytes;
    }

    /// <inheritdoc/>
    public override long Length { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities =>
        BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits => new()
    {
        RequestAlignment = JournalBlocks.SectorSize,
        MemoryAlignment = 1,
        OptimalTransfer = JournalBlocks.BlockSize,
    };

    /// <inheritdoc/>
    public string Identity
    {
        get
        {
            StatInfo stat = _plan.Host.Stat;
            return string.Create(
                CultureInfo.InvariantCulture, $"folder:{stat.DeviceMajor}:{stat.DeviceMinor}:{stat.Inode}");
        }
    }

    /// <inheritdoc/>
    public CommitReport LastCommit => ToReport(_disk.Last);

    /// <inheritdoc/>
    public async ValueTask<CommitReport> CommitAsync(CancellationToken cancellationToken) =>
        ToReport(await ApplyAsync(cancellationToken).ConfigureAwait(false));

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _disk.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) =>
        _disk.WriteAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        await _disk.ZeroAsync(offset, count, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken) =>
        await ApplyAsync(cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        JournalSource source = _disk.Journal.Map(offset, count, out long length);
        return source switch
        {
            JournalSource.Zero => new(new BlockExtent(length, ExtentFlags.Zero | ExtentFlags.Present)),
            JournalSource.Below when _disk.IsAsPlanned => _plan.MapAsync(offset, length, cancellationToken),
            _ => new(new BlockExtent(length, ExtentFlags.Data | ExtentFlags.Present)),
        };
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        FolderFacts.Describe(_plan.Plan, info);
        info.FormatSpecific.Add(new("journal", _disk.JournalPath ?? ""));
        info.FormatSpecific.Add(new("journal-bytes", _disk.Journal.UsedBytes));
        return default;
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        try
        {
            await _disk.CloseAsync().ConfigureAwait(false);
        }
        finally
        {
            Tell(_disk.Last);
            SysFlock.Unlock(_plan.Host.Root);
            _plan.Dispose();
        }
    }

    private async ValueTask<ApplyReport> ApplyAsync(CancellationToken cancellationToken)
    {
        ApplyReport report = await _disk.FlushAsync(cancellationToken).ConfigureAwait(false);
        Tell(report);
        return report;
    }

    private void Tell(ApplyReport report)
    {
        foreach (string note in report.Notes)
        {
            _warn(note);
        }

        // A guest that is in the middle of something is nothing to worry about; a folder that cannot be written is.
        if (report.Outcome == ApplyOutcome.Failed)
        {
            _warn(
                $"what was written is kept in the journal '{_disk.JournalPath}', because the folder could not follow: "
                + report.Reason);
        }
    }

    private CommitReport ToReport(ApplyReport report) =>
        new(report.IsDone, report.Reason, report.Notes, report.IsDone ? null : _disk.JournalPath);
}
