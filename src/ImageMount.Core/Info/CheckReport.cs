namespace ImageMount.Core.Info;

/// <summary>Implemented by devices that can verify the structure of their image.</summary>
public interface ICheckable
{
    /// <summary>
    /// Reads all metadata and reports what is wrong. Changes nothing. Throws only when the check itself cannot run.
    /// </summary>
    ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken);
}

/// <summary>Result of a check; the names follow qemu-img's JSON.</summary>
public sealed class CheckReport
{
    /// <summary>Most problems kept as text; the counters go on.</summary>
    public const int MaxProblems = 100;

    /// <summary>Structures that would lose or mix up guest data.</summary>
    public long Corruptions { get; set; }

    /// <summary>Space that is allocated but not used; no data is at risk.</summary>
    public long Leaks { get; set; }

    /// <summary>Failures of the check itself (unreadable metadata).</summary>
    public long CheckErrors { get; set; }

    /// <summary>Allocation units of the virtual disk.</summary>
    public long? TotalClusters { get; set; }

    /// <summary>Units that hold data.</summary>
    public long? AllocatedClusters { get; set; }

    /// <summary>Units stored compressed.</summary>
    public long? CompressedClusters { get; set; }

    /// <summary>Units that do not follow their predecessor on the host.</summary>
    public long? FragmentedClusters { get; set; }

    /// <summary>Byte offset of the end of the image in its file.</summary>
    public long? ImageEndOffset { get; set; }

    /// <summary>The first <see cref="MaxProblems"/> problems, one sentence each.</summary>
    public List<string> Problems { get; } = [];

    /// <summary>What was not checked, though it could have been wrong; the first <see cref="MaxProblems"/>.</summary>
    public List<string> Notes { get; } = [];

    /// <summary>Says that something was left out. Neither an error nor a success.</summary>
    public void Note(string text)
    {
        if (Notes.Count < MaxProblems)
        {
            Notes.Add(text);
        }
    }

    /// <summary>Counts a corruption and keeps its text while there is room.</summary>
    public void Corruption(string problem)
    {
        Corruptions++;
        Keep("ERROR: " + problem);
    }

    /// <summary>Counts leaked units and keeps the text while there is room.</summary>
    public void Leak(string problem, long units = 1)
    {
        Leaks += units;
        Keep("Leak: " + problem);
    }

    /// <summary>Counts a failure to read what should be checked.</summary>
    public void Error(string problem)
    {
        CheckErrors++;
        Keep("ERROR: " + problem);
    }

    private void Keep(string problem)
    {
        if (Problems.Count < MaxProblems)
        {
            Problems.Add(problem);
        }
    }
}
