using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Mounting.Partitions;

namespace ImageMount.Mounting.Reports;

/// <summary>What `info` says of an image, in the schema of `qemu-img info --output=json` (ImageInfo).</summary>
public static class InfoReport
{
    /// <summary>Longest chain that is described.</summary>
    public const int MaxChain = 64;

    /// <summary>The image and, one after the other, its parents.</summary>
    public static async ValueTask<IReadOnlyList<DeviceInfo>> DescribeChainAsync(
        BlockNode top, CancellationToken cancellationToken)
    {
        var chain = new List<DeviceInfo>();
        for (BlockNode? node = top; node is not null && chain.Count < MaxChain; node = Child(node, "backing"))
        {
            chain.Add(await DescribeAsync(node, cancellationToken).ConfigureAwait(false));
        }

        return chain;
    }

    /// <summary>One image. What it does not know itself is asked of the file below.</summary>
    public static async ValueTask<DeviceInfo> DescribeAsync(BlockNode node, CancellationToken cancellationToken)
    {
        DeviceInfo info = await node.DescribeAsync(cancellationToken).ConfigureAwait(false);
        info.BackingFileName = Shown(info.BackingFileName);
        info.FullBackingFileName = Shown(info.FullBackingFileName);
        BlockNode? file = Child(node, "file");
        for (int depth = 0; info.ActualSize is null && file is not null && depth < MaxChain; depth++)
        {
            DeviceInfo below = await file.DescribeAsync(cancellationToken).ConfigureAwait(false);
            info.ActualSize = below.ActualSize;
            if (below.IsOfTheDisk && info.FormatSpecific.Count == 0)
            {
                info.ClusterSize ??= below.ClusterSize;
                info.FormatSpecific.AddRange(below.FormatSpecific);
                info.SpecificTo = below.Format;
            }

            file = Child(file, "file");
        }

        return info;
    }

    /// <summary>Names that an image records may hold passwords.</summary>
    private static string? Shown(string? name) => name is null ? null : Core.Graph.ShownSource.Of(name);

    /// <summary>Writes one ImageInfo object; <paramref name="more"/> may add keys at its end.</summary>
    public static void Write(Utf8JsonWriter json, DeviceInfo info, Action<Utf8JsonWriter>? more = null)
    {
        json.WriteStartObject();
        WriteOptional(json, "backing-filename-format", info.BackingFormat);
        WriteSnapshots(json, info);
        json.WriteNumber("virtual-size", info.VirtualSize);
        json.WriteString("filename", info.FileName);
        WriteOptional(json, "cluster-size", info.ClusterSize);
        json.WriteString("format", info.Format);
        WriteOptional(json, "actual-size", info.ActualSize);
        WriteOptional(json, "encrypted", info.Encrypted);
        WriteOptional(json, "compressed", info.Compressed);
        WriteSpecific(json, info);
        WriteOptional(json, "full-backing-filename", info.FullBackingFileName);
        WriteOptional(json, "backing-filename", info.BackingFileName);
        json.WriteBoolean("dirty-flag", info.DirtyFlag ?? false);
        more?.Invoke(json);
        json.WriteEndObject();
    }

    /// <summary>Writes the keys "partitions" and "warnings", which qemu-img does not have.</summary>
    public static void WritePartitions(Utf8JsonWriter json, PartitionTable table)
    {
        json.WriteString("partition-table", table.Scheme.ToString().ToLowerInvariant());
        json.WriteStartArray("partitions");
        foreach (Partition partition in table.Partitions)
        {
            json.WriteStartObject();
            json.WriteNumber("number", partition.Number);
            json.WriteNumber("start", partition.Offset);
            json.WriteNumber("size", partition.Size);
            json.WriteString("type", partition.TypeId);
            WriteOptional(json, "type-name", partition.TypeName);
            json.WriteString("name", partition.Name);
            json.WriteBoolean("bootable", partition.IsBootable);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("warnings");
        foreach (string warning in table.Warnings)
        {
            json.WriteStringValue(warning);
        }

        json.WriteEndArray();
    }

    /// <summary>The child that plays a role, or null.</summary>
    public static BlockNode? Child(BlockNode node, string role)
    {
        foreach (BlockChild child in node.Children)
        {
            if (child.Role == role)
            {
                return child.Node;
            }
        }

        return null;
    }

    private static void WriteSnapshots(Utf8JsonWriter json, DeviceInfo info)
    {
        if (info.Snapshots.Count == 0)
        {
            return;
        }

        json.WriteStartArray("snapshots");
        foreach (SnapshotInfo snapshot in info.Snapshots)
        {
            json.WriteStartObject();
            if (snapshot.InstructionCount is { } count)
            {
                json.WriteNumber("icount", count);
            }

            json.WriteNumber("vm-clock-nsec", snapshot.VmClockNanoseconds % 1_000_000_000);
            json.WriteString("name", snapshot.Name);
            json.WriteNumber("date-sec", snapshot.Date.ToUnixTimeSeconds());
            json.WriteNumber("date-nsec", snapshot.Date.Ticks % TimeSpan.TicksPerSecond * 100);
            json.WriteNumber("vm-clock-sec", snapshot.VmClockNanoseconds / 1_000_000_000);
            json.WriteString("id", snapshot.Id);
            json.WriteNumber("vm-state-size", snapshot.VmStateSize);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteSpecific(Utf8JsonWriter json, DeviceInfo info)
    {
        if (info.FormatSpecific.Count == 0)
        {
            return;
        }

        json.WriteStartObject("format-specific");
        json.WriteString("type", info.SpecificTo ?? info.Format);
        json.WritePropertyName("data");
        ReportJson.WriteValue(json, info.FormatSpecific);
        json.WriteEndObject();
    }

    private static void WriteOptional(Utf8JsonWriter json, string key, string? value)
    {
        if (value is not null)
        {
            json.WriteString(key, value);
        }
    }

    private static void WriteOptional(Utf8JsonWriter json, string key, long? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(key, number);
        }
    }

    private static void WriteOptional(Utf8JsonWriter json, string key, bool? value)
    {
        if (value is { } flag)
        {
            json.WriteBoolean(key, flag);
        }
    }
}
