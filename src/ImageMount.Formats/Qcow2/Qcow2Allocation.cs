namespace ImageMount.Formats.Qcow2;

/// <summary>Clusters given out: a contiguous range, counted once already.</summary>
/// <param name="First">Index of the first cluster.</param>
/// <param name="Count">Clusters.</param>
/// <param name="ReadsZero">True when they are known to read as zeroes.</param>
internal readonly record struct Qcow2Allocation(long First, long Count, bool ReadsZero);

/// <summary>What has to happen outside the lock before an allocation can go on.</summary>
internal enum Qcow2NeedKind
{
    /// <summary>Nothing; just try again.</summary>
    Nothing,

    /// <summary>A refcount slice has to be read.</summary>
    Slice,

    /// <summary>Free clusters have to be looked for in the refcount blocks.</summary>
    Scan,

    /// <summary>The file has to grow.</summary>
    Room,
}

/// <summary>A need and its argument: the key of a slice, or a number of clusters and how few would do.</summary>
internal readonly record struct Qcow2Need(Qcow2NeedKind Kind, long Value = 0, long AtLeast = 0);
