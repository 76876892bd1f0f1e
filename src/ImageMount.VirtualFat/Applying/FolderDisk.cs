using System.Text;
using ImageMount.Core.Block;
using ImageMount.VirtualFat.Journal;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// A disk of a folder that may be written. Reads see the journal first; then, for clusters of files, the host's files;
/// then the plan. Writes go to the journal only. When somebody asks for it (flush, commit, close) and the file system
/// on the disk is consistent, the folder is brought up to date; then it goes on as before: the disk keeps the layout
/// that the guest gave it, for the guest remembers it too, and only the map from clusters to files of the host is
/// made anew.
/// </summary>
/// <remarks>
/// Writes and applying exclude each other, so that a moment of the disk is applied and nothing in between. Reads go
/// on; only while files are renamed on the host, those that need them wait.
/// What is made durable by a flush is so either in the folder or in the journal's file.
/// </remarks>
internal sealed class FolderDisk : IDiskReader
{
    private const int ZeroStep = 1 << 20;
    private readonly IDiskReader _plan;
    private readonly VolumeGeometry _geometry;
    private readonly JournalBlocks _journal;
    private readonly HostChanges _changes;
    private readonly HostFiles _files;
    private readonly DataMap _planned;
    private readonly TimeZoneInfo _zone;
    private readonly Func<FolderState, byte[]> _encode;
    private readonly SemaphoreSlim _writing = new(1, 1);
    private volatile TaskCompletionSource? _renaming;
    private long _renames;
    private readonly List<StagingFolder> _doubtful = [];
    private FolderState _state;
    private volatile DataMap? _map;
    private (ChangeLog Log, bool IsFirst)? _unfinished;
    private bool _isStateSaved;
    private long _savedVersion = -1;
    private long _appliedVersion;

    /// <summary>Puts one together.</summary>
    /// <param name="plan">The disk as planned.</param>
    /// <param name="geometry">Its volume.</param>
    /// <param name="planned">Folder and disk when the plan was made.</param>
    /// <param name="state">The same when the folder last followed; as <paramref name="planned"/> for a new
    /// journal.</param>
    /// <param name="journal">What was written; disposed with this.</param>
    /// <param name="parts">The folder, and what tests replace.</param>
    public FolderDisk(
        IDiskReader plan, VolumeGeometry geometry, FolderState planned, FolderState state, JournalBlocks journal,
        FolderDiskParts parts)
    {
        (_plan, _geometry, _state, _journal, _zone) = (plan, geometry, state, journal, parts.Zone);
        _changes = new HostChanges(new HostTree(parts.Root, parts.Name), parts.Hook, parts.Lack);
        _files = new HostFiles(new HostTree(parts.Root, parts.Name), parts.Warn);
        _planned = new DataMap(planned, geometry.ClusterSize);
        _map = ReferenceEquals(planned, state) ? null : new DataMap(state, geometry.ClusterSize);
        _encode = parts.EncodeState;

        // A journal that was gone on with has something in it that the folder may lack.
        _appliedVersion = journal.File.IsSaved ? -1 : journal.Version;
        _isStateSaved = journal.File.IsSaved;
    }

    /// <inheritdoc/>
    public long Length => _plan.Length;

    /// <summary>What came of the last try to bring the folder up to date.</summary>
    public ApplyReport Last { get; private set; } = new(ApplyOutcome.Unchanged, null, []);

    /// <summary>True while the folder has not had to follow.</summary>
    public bool IsAsPlanned => _map is null;

    /// <summary>Path of the journal's file, when there is one.</summary>
    public string? JournalPath => _journal.File.IsSaved ? _journal.File.Path : null;

    /// <summary>The journal.</summary>
    public JournalBlocks Journal => _journal;

    /// <inheritdoc/>
    public async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            JournalSource source = _journal.Read(offset, buffer.Span, out int length);
            if (source == JournalSource.Below)
            {
                await ReadBelowAsync(offset, buffer[..length], cancellationToken).ConfigureAwait(false);
            }

            offset += length;
            buffer = buffer[length..];
        }
    }

    /// <summary>Writes whole sectors.</summary>
    public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _journal.Write(offset, bytes.Span);
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>Makes whole sectors zero.</summary>
    public async ValueTask ZeroAsync(long offset, long count, CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (count > 0)
            {
                JournalSource source = _journal.Map(offset, count, out long length);
                long known = source != JournalSource.Below ? 0 : _map is not null ? 0
                    : await _plan.ZeroLengthAsync(offset, length, cancellationToken).ConfigureAwait(false);

                // What is zero already takes no room in the journal: whole disks are zeroed.
                known -= known % JournalBlocks.SectorSize;
                length = known > 0 ? known : source == JournalSource.Below ? Math.Min(length, ZeroStep) : length;
                if (known == 0)
                {
                    _journal.Zero(offset, length);
                }

                offset += length;
                count -= length;
            }
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>
    /// Brings the folder up to date, if the disk is consistent; if not, everything written so far is made durable in
    /// the journal's file.
    /// </summary>
    /// <exception cref="BlockException">Neither could be done.</exception>
    public async ValueTask<ApplyReport> FlushAsync(CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_journal.Version == _appliedVersion && _unfinished is null)
            {
                // What came of the last try goes on to be what there is to know.
                return new ApplyReport(ApplyOutcome.Unchanged, null, []);
            }

            ApplyReport report = await TryApplyAsync(cancellationToken).ConfigureAwait(false);
            if (!report.IsDone)
            {
                SaveJournal(isApplied: false);
            }

            return Last = report;
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>Keeps the state that this was made with in the journal's file: it was corrected.</summary>
    public void KeepState()
    {
        _isStateSaved = false;
        SaveJournal(_journal.File.IsApplied);
    }

    /// <summary>
    /// The last flush, and the end of the journal when all is in the folder. Else its file stays, and that is an
    /// error.
    /// </summary>
    public async ValueTask CloseAsync()
    {
        try
        {
            ApplyReport report = await FlushAsync(CancellationToken.None).ConfigureAwait(false);
            if (!report.IsDone)
            {
                throw new BlockException(
                    report.Outcome == ApplyOutcome.Failed ? BlockErrorKind.IoError : BlockErrorKind.InvalidData,
                    $"what was written to the disk is not in '{_changes.Tree.Name}'"
                    + (_unfinished is null ? ", which was not changed" : ", or only a part of it")
                    + $": {report.Reason}. It is kept in the journal '{_journal.File.Path}'")
                {
                    Hint = $"Go on with it: imgmount commit '{_journal.File.Path}', or mount the folder with "
                        + "journal=PATH to repair the disk.",
                };
            }

            _journal.File.Remove();
        }
        finally
        {
            _files.Dispose();
            _changes.Tree.Dispose();
            _journal.Dispose();
            _writing.Dispose();
        }
    }

    /// <summary>The journal goes into its file as it is, without the folder: for a crash on purpose, and for
    /// tests.</summary>
    public void Abandon()
    {
        _files.Dispose();
        _changes.Tree.Dispose();
        _journal.Dispose();
    }

    private async ValueTask<ApplyReport> TryApplyAsync(CancellationToken cancellationToken)
    {
        var notes = new List<string>();
        try
        {
            FinishLast(notes);
            long version = _journal.Version;
            VolumeReading reading = await VolumeReader.ReadAsync(
                this, _geometry.Offset, Length - _geometry.Offset, _geometry, cancellationToken).ConfigureAwait(false);
            if (reading.Tree is not { } tree)
            {
                return new ApplyReport(
                    ApplyOutcome.Inconsistent, $"the file system on the disk is not consistent: {reading.Findings}",
                    notes);
            }

            bool hasChanges = await ApplyAsync(tree, notes, cancellationToken).ConfigureAwait(false);
            _appliedVersion = version;
            return new ApplyReport(hasChanges ? ApplyOutcome.Applied : ApplyOutcome.Unchanged, null, notes);
        }
        catch (BlockException e)
        {
            return new ApplyReport(ApplyOutcome.Failed, e.Describe(), notes);
        }
        catch (SystemException e) when (e is not OperationCanceledException)
        {
            // A bug of ours. What the guest wrote must be saved all the same.
            return new ApplyReport(ApplyOutcome.Failed, $"this program failed: {e}", notes);
        }
    }

    private async ValueTask<bool> ApplyAsync(VolumeTree tree, List<string> notes, CancellationToken cancellationToken)
    {
        var match = TreeMatch.Make(_state, tree, IsFresh);
        if (!ChangePlanner.HasChanges(tree, match))
        {
            return false;
        }

        var staging = StagingFolder.Create(_changes);
        ChangeLog log;
        FolderState after;
        try
        {
            var stager = new FileStager(
                this, _geometry, _journal, _map ?? _planned, _changes, staging, _zone);
            var places = new HostPlaces(_state, _changes.Tree, staging);
            var planner = new ChangePlanner(tree, match, _changes.Tree, places, stager, _zone, notes);
            after = await planner.PlanAsync(staging.Id, cancellationToken).ConfigureAwait(false);
            log = new ChangeLog(staging.Id, JournalPath ?? "", places.Steps, places.Garbage);
            _changes.SyncFolder(staging.Path);
            staging.WriteLog(log);
        }
        catch (Exception e) when (e is BlockException or OperationCanceledException)
        {
            staging.Discard(notes);
            throw;
        }

        Commit(log, after);
        FinishLast(notes);
        return true;
    }

    /// <summary>
    /// From here on it will be done. Where there is a file of the journal it says so too; a log that names a journal
    /// counts only when that knows of it.
    /// </summary>
    private void Commit(ChangeLog log, FolderState after)
    {
        FolderState before = _state;
        Action undo = _journal.ClearFresh();
        _state = after;
        try
        {
            if (JournalPath is not null)
            {
                _isStateSaved = false;
                SaveJournal(isApplied: true);
            }
        }
        catch (BlockException)
        {
            // What the file says now is not known. Until it is, the log stays: whoever comes next can tell from the
            // file whether it counts.
            undo();
            _state = before;
            _isStateSaved = false;
            _doubtful.Add(StagingFolder.Existing(_changes, log.Id));
            throw;
        }

        _isStateSaved &= JournalPath is not null;
        _unfinished = (log, true);
    }

    /// <summary>Does the steps of the last applying, as far as they are not done.</summary>
    private void FinishLast(List<string> notes)
    {
        if (_unfinished is not { } unfinished)
        {
            return;
        }

        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _renaming = done;
        var runner = new ChangeRunner(_changes, unfinished.Log, notes);
        bool isSettled = false;
        try
        {
            runner.Run(isResumed: !unfinished.IsFirst);
            KeepRedirects(runner, unfinished.IsFirst);
            isSettled = true;
            runner.CleanUp();
            _state = WithTimesOfChange(_state);
            _unfinished = null;
        }
        catch (BlockException)
        {
            // What was done is done; the next run looks for the place to go on.
            _unfinished = unfinished with { IsFirst = false };
            KeepRedirects(runner, saves: false);
            throw;
        }
        finally
        {
            _files.IsUnsettled = !isSettled;
            _files.Forget();
            _map = new DataMap(_state, _geometry.ClusterSize);
            Interlocked.Increment(ref _renames);
            _renaming = null;
            done.SetResult();
        }
    }

    /// <summary>
    /// Names that had to become others. They are in the journal's file before the log goes, from which alone they could
    /// be found again.
    /// </summary>
    private void KeepRedirects(ChangeRunner runner, bool saves)
    {
        if (runner.Redirects.Count == 0)
        {
            return;
        }

        _state = Redirected.Apply(_state, runner.Redirects);
        _isStateSaved = false;
        if (saves && JournalPath is not null)
        {
            SaveJournal(isApplied: true);
        }
    }

    /// <summary>Our own renaming changed the times of change: what they are now is what others' changes will differ
    /// from.</summary>
    private FolderState WithTimesOfChange(FolderState state)
    {
        bool isOpen(FolderNode node) => node is { IsFolder: false, Host: { Exists: true, ChangedNs: 0 } };
        if (!state.Nodes.Any(isOpen))
        {
            return state;
        }

        _isStateSaved = false;
        return state.With(
            node => node.HostName,
            node => isOpen(node) && _changes.Tree.Look(node.Path) is var now && now == node.Host ? now : node.Host);
    }

    private bool IsFresh(ClusterRun run) =>
        _journal.IsFresh(_geometry.OffsetOf(run.First), (long)run.Count * _geometry.ClusterSize);

    private void SaveJournal(bool isApplied)
    {
        if (_savedVersion == _journal.Version && _isStateSaved && _journal.File.IsApplied == isApplied)
        {
            return;
        }

        byte[]? state = _isStateSaved ? null : _encode(_state);
        _journal.Save(state, _state.ApplyId, isApplied);
        _savedVersion = _journal.Version;
        _isStateSaved = true;
        foreach (StagingFolder staging in _doubtful)
        {
            staging.Abort([]);
        }

        _doubtful.Clear();
    }

    private async ValueTask ReadBelowAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (true)
        {
            if (_renaming is { } renaming)
            {
                await renaming.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
            }

            long renames = Interlocked.Read(ref _renames);
            try
            {
                await ReadBelowOnceAsync(offset, buffer, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException) when (_renaming is not null || renames != Interlocked.Read(ref _renames))
            {
                continue;
            }

            if (_renaming is null && renames == Interlocked.Read(ref _renames))
            {
                return;
            }
        }
    }

    private async ValueTask ReadBelowOnceAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_map is not { } map)
        {
            // The folder is as it was planned.
            await _plan.ReadAsync(offset, buffer, cancellationToken).ConfigureAwait(false);
            return;
        }

        while (!buffer.IsEmpty)
        {
            int length = buffer.Length;
            bool isData = offset >= _geometry.DataOffset && offset < _geometry.OffsetOf(_geometry.EndCluster);
            if (!isData)
            {
                length = offset < _geometry.DataOffset ? (int)Math.Min(length, _geometry.DataOffset - offset) : length;
                await _plan.ReadAsync(offset, buffer[..length], cancellationToken).ConfigureAwait(false);
            }
            else
            {
                long within = offset - _geometry.DataOffset;
                uint cluster = (uint)(within / _geometry.ClusterSize) + FatLayout.FirstCluster;
                bool isFile = map.TryFind(cluster, out DataPiece piece, out uint next);
                bool wasFile = _planned.TryFind(cluster, out _, out uint plannedNext);
                uint end = Math.Min(isFile ? next : Math.Min(next, plannedNext), _geometry.EndCluster);
                length = (int)Math.Min(length, _geometry.OffsetOf(end) - offset);
                if (isFile)
                {
                    long at = piece.FileOffset + (long)(cluster - piece.First) * _geometry.ClusterSize
                        + within % _geometry.ClusterSize;
                    _files.Read(piece.Node, at, buffer.Span[..length]);
                }
                else if (wasFile)
                {
                    // Of a file that is no more.
                    buffer.Span[..length].Clear();
                }
                else
                {
                    await _plan.ReadAsync(offset, buffer[..length], cancellationToken).ConfigureAwait(false);
                }
            }

            offset += length;
            buffer = buffer[length..];
        }
    }
}
