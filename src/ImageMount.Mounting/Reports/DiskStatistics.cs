using System.Diagnostics;
using System.Numerics;

namespace ImageMount.Mounting.Reports;

/// <summary>What is counted of the requests to disk files.</summary>
public enum DiskOperation
{
    /// <summary>Reading.</summary>
    Read,

    /// <summary>Writing.</summary>
    Write,

    /// <summary>Making durable.</summary>
    Flush,

    /// <summary>Zeroing and punching holes.</summary>
    Zero,
}

/// <summary>
/// Counts requests, bytes, errors and how long they took, in classes of powers of two of microseconds. Counting costs
/// one interlocked addition or two, spread over the processors so that they do not fight for a cache line.
/// </summary>
public sealed class DiskStatistics
{
    /// <summary>Latency classes: class n holds requests of less than 2^n µs (the last: everything longer).</summary>
    public const int Classes = 26;

    private const int Operations = 4;
    private const int BytesAt = Classes;
    private const int ErrorsAt = Classes + 1;
    private const int PerOperation = 32; // a multiple of a cache line
    private readonly long[][] _stripes;

    /// <summary>Starts at zero.</summary>
    public DiskStatistics()
    {
        int count = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Clamp(Environment.ProcessorCount, 1, 64));
        _stripes = new long[count][];
        for (int i = 0; i < count; i++)
        {
            _stripes[i] = new long[Operations * PerOperation];
        }
    }

    /// <summary>A time to give back to <see cref="Succeeded"/>.</summary>
    public static long Now => Stopwatch.GetTimestamp();

    /// <summary>
    /// A request of <paramref name="bytes"/> bytes that began at <paramref name="started"/> has succeeded.
    /// </summary>
    public void Succeeded(DiskOperation operation, long bytes, long started)
    {
        long microseconds = (Stopwatch.GetTimestamp() - started) * 1_000_000 / Stopwatch.Frequency;
        int latency = Math.Min(64 - BitOperations.LeadingZeroCount((ulong)microseconds), Classes - 1);
        long[] stripe = Stripe();
        int at = (int)operation * PerOperation;
        Interlocked.Increment(ref stripe[at + latency]);
        Interlocked.Add(ref stripe[at + BytesAt], bytes);
    }

    /// <summary>A request has failed.</summary>
    public void Failed(DiskOperation operation) =>
        Interlocked.Increment(ref Stripe()[(int)operation * PerOperation + ErrorsAt]);

    /// <summary>Sums of one operation.</summary>
    public OperationStatistics Read(DiskOperation operation)
    {
        var latencies = new long[Classes];
        long bytes = 0;
        long errors = 0;
        foreach (long[] stripe in _stripes)
        {
            ReadOnlySpan<long> row = stripe.AsSpan((int)operation * PerOperation, PerOperation);
            for (int i = 0; i < Classes; i++)
            {
                latencies[i] += row[i];
            }

            bytes += row[BytesAt];
            errors += row[ErrorsAt];
        }

        return new OperationStatistics(latencies.Sum(), bytes, errors, latencies);
    }

    private long[] Stripe() => _stripes[Thread.GetCurrentProcessorId() & (_stripes.Length - 1)];
}

/// <summary>Sums since the mount.</summary>
/// <param name="Count">Requests that succeeded.</param>
/// <param name="Bytes">Their bytes.</param>
/// <param name="Errors">Requests that failed.</param>
/// <param name="Latencies">Count of class n: at least 2^(n-1) µs and less than 2^n µs; class 0: less than 1 µs.</param>
public sealed record OperationStatistics(long Count, long Bytes, long Errors, IReadOnlyList<long> Latencies);
