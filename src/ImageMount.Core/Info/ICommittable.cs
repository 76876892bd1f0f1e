namespace ImageMount.Core.Info;

/// <summary>How far what was written to a disk is in the place that the disk stands for.</summary>
/// <param name="IsDone">All of it is.</param>
/// <param name="Reason">Why not all of it; null when it is.</param>
/// <param name="Notes">What the user should know, one sentence each: conflicts, for one.</param>
/// <param name="Journal">Path of the file that keeps what is not there yet; null when there is none.</param>
public sealed record CommitReport(bool IsDone, string? Reason, IReadOnlyList<string> Notes, string? Journal);

/// <summary>Implemented by devices that keep what is written to them aside until it can be applied as a
/// whole.</summary>
public interface ICommittable
{
    /// <summary>What came of the last try to apply it.</summary>
    CommitReport LastCommit { get; }

    /// <summary>Applies it now, if that is possible. Failures of the storage are BlockException.</summary>
    ValueTask<CommitReport> CommitAsync(CancellationToken cancellationToken);
}
