namespace ImageMount.Mounting.Tree;

/// <summary>
/// Part of <see cref="DiskFile"/>: who has it open and how often it was written. Kept by <see cref="Coherence"/>.
/// </summary>
public sealed class CoherenceState
{
    private long _writes;

    /// <summary>Writes through this file so far.</summary>
    public long Writes => Interlocked.Read(ref _writes);

    internal int CachedReaders { get; set; }

    internal int CachedWriters { get; set; }

    internal int DirectReaders { get; set; }

    internal int DirectWriters { get; set; }

    internal int PassthroughReaders { get; set; }

    /// <summary>Writes through overlapping files that this file's page cache is known to include.</summary>
    internal long SeenWrites { get; set; }

    /// <summary>Own writes that the others have been told of.</summary>
    internal long ToldWrites { get; set; }

    internal int Writers => CachedWriters + DirectWriters;

    internal int Handles => CachedReaders + CachedWriters + DirectReaders + DirectWriters;

    internal void Wrote() => Interlocked.Increment(ref _writes);
}
