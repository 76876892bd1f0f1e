using System.Globalization;
using System.Text.Json;
using ImageMount.Fuse;

namespace ImageMount.Mounting.Reports;

/// <summary>What .imgmount/stats.json says: requests, bytes, errors and latencies since the mount.</summary>
public static class StatsReport
{
    /// <summary>Writes one object.</summary>
    public static void Write(
        Utf8JsonWriter json, DiskStatistics statistics, FuseCounters counters, FuseTransportKind transport, TimeSpan uptime,
        int openFiles)
    {
        json.WriteStartObject();
        json.WriteNumber("pid", Environment.ProcessId);
        json.WriteNumber("uptime-ms", (long)uptime.TotalMilliseconds);
        json.WriteNumber("open-files", openFiles);
        json.WriteNumber("managed-heap-bytes", GC.GetTotalMemory(forceFullCollection: false));
        json.WriteNumber("managed-allocated-bytes", GC.GetTotalAllocatedBytes());
        foreach (DiskOperation operation in Enum.GetValues<DiskOperation>())
        {
            WriteOperation(json, operation, statistics.Read(operation));
        }

        WriteFuse(json, counters, transport);
        json.WriteEndObject();
    }

    private static void WriteOperation(Utf8JsonWriter json, DiskOperation operation, OperationStatistics sums)
    {
        json.WriteStartObject(operation.ToString().ToLowerInvariant());
        json.WriteNumber("count", sums.Count);
        json.WriteNumber("bytes", sums.Bytes);
        json.WriteNumber("errors", sums.Errors);

        // One number a class that occurred: "<8": at least 4 µs and less than 8 µs.
        json.WriteStartObject("latency-us");
        for (int i = 0; i < sums.Latencies.Count; i++)
        {
            if (sums.Latencies[i] != 0)
            {
                string name = i == DiskStatistics.Classes - 1
                    ? string.Create(CultureInfo.InvariantCulture, $">={1L << (i - 1)}")
                    : string.Create(CultureInfo.InvariantCulture, $"<{1L << i}");
                json.WriteNumber(name, sums.Latencies[i]);
            }
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteFuse(Utf8JsonWriter json, FuseCounters counters, FuseTransportKind transport)
    {
        json.WriteStartObject("fuse");
        json.WriteString("transport", transport == FuseTransportKind.Uring ? "uring" : "threads");
        json.WriteNumber("requests", counters.Requests);
        json.WriteNumber("errors", counters.Errors);
        json.WriteNumber("suspended", counters.Suspended);
        json.WriteNumber("interrupted", counters.Interrupted);
        json.WriteNumber("in-flight", counters.InFlight);
        json.WriteNumber("buffers", counters.Buffers);
        json.WriteNumber("buffer-bytes", counters.BufferBytes);
        json.WriteEndObject();
    }
}
