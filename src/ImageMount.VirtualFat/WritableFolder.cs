using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Journal;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Plan;
using ImageMount.VirtualFat.Synthesis;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat;

/// <summary>
/// Opens a folder for writing: alone; what an earlier process had begun is finished first; and it is tried out at once
/// whether the folder can be written, because later is too late to be told.
/// </summary>
internal static class WritableFolder
{
    /// <summary>Opens it.</summary>
    public static async ValueTask<BlockDevice> OpenAsync(
        VirtualFatOptions options, TimeZoneInfo zone, Action<string> warn, CancellationToken cancellationToken)
    {
        if (options.Refresh)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "'refresh' is for a disk that is only read: leave it or 'rw' out");
        }

        HostFolder host = HostFolder.Open(options.Dir);
        FatSynthesiser? plan = null;
        JournalBlocks? journal = null;
        try
        {
            FolderRecovery recovery = Prepare(host, warn);
            (plan, journal, Func<VolumeGeometry, FolderState>? readState) =
                options.Journal is { } path
                    ? Continue(host, options, path, warn)
                    : Begin(host, options, zone, warn, recovery, cancellationToken);
            await TimeSteps.WaitAsync(plan.Plan.Table, host.Clock, cancellationToken).ConfigureAwait(false);
            var reader = new PlanReader(plan);
            VolumeGeometry geometry = await ReadGeometryAsync(reader, plan.Plan, cancellationToken)
                .ConfigureAwait(false);
            FolderState planned = FolderState.FromPlan(plan.Plan);
            FatPlan plannedDisk = plan.Plan;
            FolderState? kept = readState?.Invoke(geometry);
            FolderState state = kept is null ? planned : recovery.Correct(kept);
            var disk = new FolderDisk(
                reader, geometry, planned, state, journal, new FolderDiskParts
                {
                    Root = host.Root,
                    Name = host.Path,
                    Zone = zone,
                    Warn = warn,
                    EncodeState = state => PlanCodec.Write(plannedDisk, state),
                });
            if (kept is not null)
            {
                if (!ReferenceEquals(state, kept))
                {
                    disk.KeepState();
                }

                recovery.Conclude(state.ApplyId);
            }

            return new WritableFatDevice(plan, disk, warn);
        }
        catch
        {
            journal?.Dispose();
            SysFlock.Unlock(host.Root);
            plan?.Dispose();
            host.Dispose();
            throw;
        }
    }

    private static FolderRecovery Prepare(HostFolder host, Action<string> warn)
    {
        int result = SysFlock.TryLock(host.Root);
        if (result == -Errno.EWOULDBLOCK)
        {
            throw new BlockException(BlockErrorKind.InUse, $"the folder '{host.Path}' is open for writing already");
        }

        var tree = new HostTree(host.Root, host.Path);
        var changes = new HostChanges(tree);
        FolderRecovery recovery = FolderRecovery.Run(changes, warn);
        StagingFolder.Create(changes).Discard([]);
        return recovery;
    }

    private static (FatSynthesiser Plan, JournalBlocks Journal, Func<VolumeGeometry, FolderState>? State) Begin(
        HostFolder host, VirtualFatOptions options, TimeZoneInfo zone, Action<string> warn,
        FolderRecovery recovery, CancellationToken cancellationToken)
    {
        string directory = options.JournalDir ?? JournalPlace.DefaultFolder();
        JournalPlace.CheckLeft(directory, host.RealPath, warn);
        recovery.Conclude(null);
        JournalPlace.RequireWritable(directory);
        FatPlan plan = FatPlanner.Make(host, options, zone, warn, cancellationToken);
        CheckSize(plan);
        var file = new JournalFile(
            JournalPlace.NewPath(directory, host.RealPath), host.RealPath, plan.Geometry.TotalBytes);
        return (new FatSynthesiser(host, plan, warn), new JournalBlocks(options.JournalMemory, file), null);
    }

    /// <summary>A folder that could be shown, and written to, but never follow.</summary>
    private static void CheckSize(FatPlan plan)
    {
        if (plan.Table.Count > VolumeReader.MaxNodes)
        {
            throw BlockException.Limit(
                "the folder has too many entries to be written to", plan.Table.Count, VolumeReader.MaxNodes);
        }

        if (PlanCodec.EstimateSize(plan) is > JournalFile.MaxPart and var size)
        {
            throw BlockException.Limit("the folder has too many names to be written to", size, JournalFile.MaxPart);
        }
    }

    private static (FatSynthesiser Plan, JournalBlocks Journal, Func<VolumeGeometry, FolderState>? State) Continue(
        HostFolder host, VirtualFatOptions options, string path, Action<string> warn)
    {
        JournalFile file = JournalFile.Open(Path.GetFullPath(path));
        try
        {
            if (file.Folder != host.RealPath)
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument, $"the journal '{path}' belongs to another folder")
                {
                    Found = host.RealPath,
                    Expected = file.Folder,
                };
            }

            FatPlan plan = PlanCodec.Read(file.ReadState(out _), file, out Func<VolumeGeometry, FolderState> state);
            return (new FatSynthesiser(host, plan, warn), JournalBlocks.Load(options.JournalMemory, file), state);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static async ValueTask<VolumeGeometry> ReadGeometryAsync(
        PlanReader reader, FatPlan plan, CancellationToken cancellationToken)
    {
        byte[] sector = new byte[FatLayout.SectorSize];
        long offset = plan.Geometry.PartitionOffset;
        await reader.ReadAsync(offset, sector, cancellationToken).ConfigureAwait(false);
        return VolumeGeometry.Parse(sector, offset, reader.Length - offset, out _, out string problem)
            ?? throw new BlockException(BlockErrorKind.InvalidData, $"the plan of the folder is not usable: {problem}");
    }

    private sealed class PlanReader(FatSynthesiser plan) : IDiskReader
    {
        public long Length { get; } = plan.Plan.Geometry.TotalBytes;

        public ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
            plan.ReadAsync(offset, buffer, cancellationToken);

        public async ValueTask<long> ZeroLengthAsync(long offset, long count, CancellationToken cancellationToken)
        {
            BlockExtent extent = await plan.MapAsync(offset, count, cancellationToken).ConfigureAwait(false);
            return extent.IsZero ? extent.Length : 0;
        }
    }
}
