using ImageMount.Core.Options;

namespace ImageMount.Filters.Fault;

/// <summary>Options of driver "fault": one rule. Filters can be stacked for more.</summary>
public sealed record FaultOptions
{
    /// <summary>Which requests fail.</summary>
    [Option("op", "Which requests fail.")]
    public FaultOperation Operation { get; init; } = FaultOperation.Any;

    /// <summary>With which error.</summary>
    [Option("error", "With which error they fail.")]
    public FaultError Error { get; init; } = FaultError.Eio;

    /// <summary>First byte of the range that fails.</summary>
    [Option("offset", "First byte of the range that fails; requests that touch it count.", IsSize = true, Min = 0)]
    public long Offset { get; init; }

    /// <summary>Length of the range; null for the rest of the disk.</summary>
    [Option("size", "Length of that range; without it, the rest of the disk.", IsSize = true, Min = 1)]
    public long? Size { get; init; }

    /// <summary>Matching requests that succeed first.</summary>
    [Option("after", "How many matching requests succeed before the first one fails.", Min = 0)]
    public long After { get; init; }

    /// <summary>Matching requests that fail; 0 for all.</summary>
    [Option("times", "How many then fail before the rest succeed again; 0: all of them.", Min = 0)]
    public long Times { get; init; }
}

/// <summary>Kinds of requests.</summary>
public enum FaultOperation
{
    /// <summary>All of them.</summary>
    Any,

    /// <summary>Reads.</summary>
    Read,

    /// <summary>Writes.</summary>
    Write,

    /// <summary>Zeroing.</summary>
    Zero,

    /// <summary>Discards.</summary>
    Discard,

    /// <summary>Flushes; they have no range.</summary>
    Flush,

    /// <summary>Changes of the length; they have no range.</summary>
    Resize,
}

/// <summary>Errors that can be produced, by the errno that a user meets in the field.</summary>
public enum FaultError
{
    /// <summary>The disk failed.</summary>
    Eio,

    /// <summary>The file system is full.</summary>
    Enospc,

    /// <summary>The quota is used up.</summary>
    Edquot,

    /// <summary>Access was lost.</summary>
    Eacces,

    /// <summary>The peer did not answer.</summary>
    Etimedout,
}
