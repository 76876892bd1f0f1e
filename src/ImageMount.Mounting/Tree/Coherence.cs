namespace ImageMount.Mounting.Tree;

/// <summary>How the host is to treat one open file.</summary>
public enum OpenCaching
{
    /// <summary>Through the kernel's page cache.</summary>
    Cached,

    /// <summary>Every read and write reaches us.</summary>
    Direct,

    /// <summary>The kernel serves the host file by itself (reading only).</summary>
    Passthrough,
}

/// <summary>What to do for an open.</summary>
/// <param name="Caching">How to treat it.</param>
/// <param name="KeepCache">What the page cache holds of the file is still true.</param>
/// <param name="WriteBackFirst">Files whose delayed writes must reach us, and whose page cache must go, before the open
/// is answered.</param>
public readonly record struct OpenPlan(OpenCaching Caching, bool KeepCache, IReadOnlyList<DiskFile> WriteBackFirst);

/// <summary>What a mount's files may use; follows from cache mode and image.</summary>
/// <param name="PageCache">Files may use the page cache.</param>
/// <param name="DelayedWrites">The kernel delays writes.</param>
/// <param name="Passthrough">The file that the kernel can serve from the host's, or null.</param>
public sealed record CoherenceRules(bool PageCache, bool DelayedWrites, DiskFile? Passthrough);

/// <summary>
/// Keeps disk.raw and the partitions coherent. They are different files to the kernel, each with its own page cache,
/// over the same bytes. The rules, all of them about files that overlap:
/// <list type="number">
/// <item>What was written through one file and has reached us (fsync, close, or at the kernel's leisure) is seen by
/// every open of another that begins afterwards: its stale page cache is dropped at open.</item>
/// <item>Two files are never both cached while one of them is open for writing: the one opened later is direct, after
/// the delayed writes of the earlier one have been called in. So the later one always sees what has reached us.</item>
/// <item>fsync and close of a written file drop the page cache of the other files that are open, so that the earlier,
/// cached one sees the new bytes too.</item>
/// </list>
/// Two programs that write the same sector through two files without fsync between them race, as on /dev/sda and
/// /dev/sda1. A file opened for writing only is direct: nobody reads through it, and the kernel's delayed writes would
/// let it run past the end of the disk unnoticed. A passed-through file has no page cache of its own and is opened for
/// reading only; its writers are direct.
/// </summary>
public sealed class Coherence(CoherenceRules rules, IReadOnlyList<DiskFile> files)
{
    private readonly Lock _lock = new();
    private CoherenceRules _rules = rules;

    /// <summary>The kernel will not pass the file through after all.</summary>
    public void DisablePassthrough()
    {
        lock (_lock)
        {
            _rules = _rules with { Passthrough = null };
        }
    }

    /// <summary>Decides how to open, and counts the open file. Undone by <see cref="Close"/>.</summary>
    public OpenPlan Open(DiskFile file, bool reads, bool writes)
    {
        lock (_lock)
        {
            CoherenceState state = file.Coherence;
            if (ReferenceEquals(file, _rules.Passthrough) && !writes)
            {
                state.PassthroughReaders++;
                return new(OpenCaching.Passthrough, true, CachedWritersBeside(file));
            }

            bool direct = !_rules.PageCache
                || ReferenceEquals(file, _rules.Passthrough)
                || (writes && !reads)
                || Conflicts(file, writes);
            List<DiskFile> writeBack = CachedWritersBeside(file);
            long written = WrittenBeside(file);
            bool keep = written == state.SeenWrites && writeBack.Count == 0;
            if (direct)
            {
                _ = writes ? state.DirectWriters++ : state.DirectReaders++;
                return new(OpenCaching.Direct, false, writeBack);
            }

            _ = writes ? state.CachedWriters++ : state.CachedReaders++;
            state.SeenWrites = written;
            return new(OpenCaching.Cached, keep, writeBack);
        }
    }

    /// <summary>Forgets an open file.</summary>
    public void Close(DiskFile file, OpenCaching caching, bool writes)
    {
        lock (_lock)
        {
            CoherenceState state = file.Coherence;
            _ = (caching, writes) switch
            {
                (OpenCaching.Passthrough, _) => state.PassthroughReaders--,
                (OpenCaching.Cached, true) => state.CachedWriters--,
                (OpenCaching.Cached, false) => state.CachedReaders--,
                (_, true) => state.DirectWriters--,
                (_, false) => state.DirectReaders--,
            };
        }
    }

    /// <summary>
    /// Files whose page cache must be dropped now that <paramref name="file"/> was synced or closed: those that are
    /// open
    /// and cached and show bytes written through it since the last call. Empty when nothing was written.
    /// </summary>
    public IReadOnlyList<DiskFile> TakeStale(DiskFile file)
    {
        long writes = file.Coherence.Writes;
        lock (_lock)
        {
            if (file.Coherence.ToldWrites == writes)
            {
                return [];
            }

            file.Coherence.ToldWrites = writes;
            List<DiskFile>? stale = null;
            foreach (DiskFile other in files)
            {
                CoherenceState state = other.Coherence;
                if (IsBeside(file, other) && state.CachedReaders + state.CachedWriters > 0)
                {
                    (stale ??= []).Add(other);
                }
            }

            return stale ?? (IReadOnlyList<DiskFile>)[];
        }
    }

    /// <summary>True when the kernel may hold writes to this file that have not reached us.</summary>
    public bool MayHoldDelayedWrites(DiskFile file)
    {
        lock (_lock)
        {
            return _rules.DelayedWrites && file.Coherence.CachedWriters > 0;
        }
    }

    private static bool IsBeside(DiskFile file, DiskFile other) =>
        !ReferenceEquals(file, other) && file.Overlaps(other);

    private bool Conflicts(DiskFile file, bool writes)
    {
        foreach (DiskFile other in files)
        {
            if (IsBeside(file, other) && (writes ? other.Coherence.Handles : other.Coherence.Writers) > 0)
            {
                return true;
            }
        }

        return false;
    }

    private List<DiskFile> CachedWritersBeside(DiskFile file)
    {
        List<DiskFile> found = [];
        foreach (DiskFile other in files)
        {
            if (IsBeside(file, other) && other.Coherence.CachedWriters > 0)
            {
                found.Add(other);
            }
        }

        return found;
    }

    private long WrittenBeside(DiskFile file)
    {
        long sum = 0;
        foreach (DiskFile other in files)
        {
            if (IsBeside(file, other))
            {
                sum += other.Coherence.Writes;
            }
        }

        return sum;
    }
}
