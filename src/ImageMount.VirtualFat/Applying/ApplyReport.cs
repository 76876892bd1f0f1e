namespace ImageMount.VirtualFat.Applying;

/// <summary>How far the folder is.</summary>
internal enum ApplyOutcome
{
    /// <summary>It had nothing to follow.</summary>
    Unchanged,

    /// <summary>It has followed.</summary>
    Applied,

    /// <summary>The disk is not consistent; the folder is as it was.</summary>
    Inconsistent,

    /// <summary>It could not be brought up to date, or not entirely.</summary>
    Failed,
}

/// <summary>What came of bringing the folder up to date.</summary>
/// <param name="Outcome">How far it is.</param>
/// <param name="Reason">Why not further; null when all is well.</param>
/// <param name="Notes">Conflicts, and what else the user should know.</param>
internal sealed record ApplyReport(ApplyOutcome Outcome, string? Reason, IReadOnlyList<string> Notes)
{
    /// <summary>True when disk and folder have the same contents.</summary>
    public bool IsDone => Outcome is ApplyOutcome.Unchanged or ApplyOutcome.Applied;
}
