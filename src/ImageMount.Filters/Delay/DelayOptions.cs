using ImageMount.Core.Options;

namespace ImageMount.Filters.Delay;

/// <summary>Options of driver "delay". All times are milliseconds.</summary>
public sealed record DelayOptions
{
    /// <summary>Delay of reads.</summary>
    [Option("read", "Milliseconds by which each read is delayed.", Min = 0, Max = 3_600_000)]
    public int Read { get; init; }

    /// <summary>Delay of writes, zeroing and discards.</summary>
    [Option("write", "Milliseconds by which each write, zeroing and discard is delayed.", Min = 0, Max = 3_600_000)]
    public int Write { get; init; }

    /// <summary>Delay of flushes.</summary>
    [Option("flush", "Milliseconds by which each flush is delayed.", Min = 0, Max = 3_600_000)]
    public int Flush { get; init; }
}
