using ImageMount.Core.Options;

namespace ImageMount.Formats.Compressed;

/// <summary>Options of every driver of compressed files.</summary>
public abstract record PackedOptions
{
    /// <summary>Bound of the seek index.</summary>
    [Option("index-memory", "Most memory for the seek index.", IsSize = true, Min = 4096, Max = 64L << 30)]
    public long IndexMemory { get; init; } = 256L << 20;

    /// <summary>Where memory ends and the temporary file begins.</summary>
    [Option("spool-above", "Units that are larger than this when decoded are kept in a temporary file, not in memory.",
        IsSize = true, Min = 4096, Max = 8 << 20)]
    public long SpoolAbove { get; init; } = 4 << 20;

    /// <summary>Bound of the temporary file.</summary>
    [Option("spool-limit", "Most bytes of the temporary file.", IsSize = true, Min = 0)]
    public long SpoolLimit { get; init; } = 32L << 30;

    /// <summary>Folder of the temporary file.</summary>
    [Option("spool-directory", "Folder of the temporary file; without it $TMPDIR, else /var/tmp.")]
    public string? SpoolDirectory { get; init; }

    /// <summary>Whether large units are decoded to their end before a byte of them is shown.</summary>
    [Option("verify", "Decode a unit to its end, and compare its checksum, before any of it is shown.")]
    public bool Verify { get; init; } = true;
}
