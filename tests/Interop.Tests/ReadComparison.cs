using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop.Tests;

/// <summary>Compares what a node of ours says with what qemu says of the same image.</summary>
public static class ReadComparison
{
    private const int RandomReads = 150;
    private const int MaxRead = 300 << 10;

    /// <summary>Reads at random places of every alignment, and everything of the islands, against a flat file.</summary>
    public static async Task AssertSameContentAsync(
        BlockNode node, string flatPath, IReadOnlyList<(long Start, long End)> islands, int seed, string name)
    {
        using SafeFileHandle flat = File.OpenHandle(flatPath);
        long flatLength = RandomAccess.GetLength(flat);
        // qemu counts in sectors: a last one that is not full reads as if it were.
        Assert.True(node.Length + 511 >> 9 == flatLength + 511 >> 9, $"{name}: length {node.Length}, qemu {flatLength}");
        var random = new Random(seed);
        long length = Math.Min(node.Length, flatLength);
        foreach ((long start, long end) in islands)
        {
            for (long at = start; at < Math.Min(end, length);)
            {
                int count = (int)Math.Min(random.Next(1, MaxRead * 4), Math.Min(end, length) - at);
                await CompareAsync(node, flat, at, count, name);
                at += count;
            }
        }

        for (int i = 0; i < RandomReads && length > 0; i++)
        {
            (long start, long end) = random.Next(8) == 0 ? (0, length) : islands[random.Next(islands.Count)];
            end = Math.Min(end, length);
            long at = random.NextInt64(Math.Min(start, end - 1), end);
            if (random.Next(2) == 0)
            {
                at &= -512;
            }

            int limit = random.Next(4) switch { 0 => 16, 1 => 5000, 2 => 70_000, _ => MaxRead };
            await CompareAsync(node, flat, at, (int)Math.Min(length - at, random.Next(1, limit)), name);
        }
    }

    /// <summary>Every run of ours agrees with the content (zero means zero) and with qemu-img map.</summary>
    public static async Task AssertSameMapAsync(BlockNode node, List<PeerMap.Run> theirs, string flatPath, string name)
    {
        using SafeFileHandle flat = File.OpenHandle(flatPath);
        var problems = new List<string>();
        int index = 0;
        for (long at = 0; at < node.Length;)
        {
            while (index < theirs.Count - 1 && theirs[index].Start + theirs[index].Length <= at)
            {
                index++;
            }

            PeerMap.Run run = theirs[index];
            BlockExtent extent = await node.MapAsync(at, node.Length - at);
            long count = Math.Min(extent.Length, run.Start + run.Length - at);
            if (count <= 0)
            {
                break; // an odd end, which qemu rounds
            }

            if (extent.IsZero && !IsZero(flat, at, count))
            {
                problems.Add($"0x{at:x}+0x{count:x}: mapped as zeroes, but qemu reads data");
            }

            string ours = Text(
                extent.IsData, extent.IsZero, (extent.Flags & ExtentFlags.Present) != 0, extent.Depth,
                (extent.Flags & ExtentFlags.HostOffset) != 0 ? extent.HostOffset : null);
            string peer = Text(
                run.Data, run.Zero, run.Present, run.Depth, run.Offset is { } offset ? offset + (at - run.Start) : null);
            if (ours != peer && !IsSameInEffect(extent, run))
            {
                problems.Add($"0x{at:x}+0x{count:x}: we say {ours}, qemu {peer}");
            }

            at += count;
        }

        Assert.True(problems.Count == 0, $"{name}: {problems.Count} runs differ: {string.Join('\n', problems.Take(8))}");
    }

    /// <summary>Fields that both programs report.</summary>
    public static async Task AssertSameDescriptionAsync(BlockNode node, QemuImage image, string name)
    {
        using JsonDocument json = JsonDocument.Parse(
            PeerTool.Img("info", "--output=json", "-f", image.Format, image.Path));
        JsonElement theirs = json.RootElement;
        DeviceInfo ours = await node.DescribeAsync();
        Same(ours.Format, theirs, "format", name);
        Assert.True(theirs.GetProperty("virtual-size").GetInt64() - ours.VirtualSize is >= 0 and < 512, name);
        Same(ours.ClusterSize, theirs, "cluster-size", name);
        Same(ours.DirtyFlag, theirs, "dirty-flag", name);
        Same(ours.BackingFileName, theirs, "backing-filename", name);
        Same(ours.FullBackingFileName, theirs, "full-backing-filename", name);
        Same(ours.BackingFormat, theirs, "backing-filename-format", name);
        if (theirs.TryGetProperty("format-specific", out JsonElement specific))
        {
            foreach (JsonProperty field in specific.GetProperty("data").EnumerateObject())
            {
                object? mine = ours.FormatSpecific.Where(f => f.Key == field.Name).Select(f => f.Value).FirstOrDefault();
                AssertSameValue(mine, field.Value, $"{name}: {field.Name}");
            }
        }

        JsonElement[] snapshots = theirs.TryGetProperty("snapshots", out JsonElement list) ? [.. list.EnumerateArray()] : [];
        Assert.True(snapshots.Length == ours.Snapshots.Count, $"{name}: {ours.Snapshots.Count} snapshots");
        for (int i = 0; i < snapshots.Length; i++)
        {
            SnapshotInfo mine = ours.Snapshots[i];
            Assert.Equal(snapshots[i].GetProperty("id").GetString(), mine.Id);
            Assert.Equal(snapshots[i].GetProperty("name").GetString(), mine.Name);
            Assert.Equal(snapshots[i].GetProperty("vm-state-size").GetInt64(), mine.VmStateSize);
            Assert.Equal(snapshots[i].GetProperty("date-sec").GetInt64(), mine.Date.ToUnixTimeSeconds());
            Assert.Equal(
                (ulong)snapshots[i].GetProperty("vm-clock-sec").GetInt64() * 1_000_000_000
                    + (ulong)snapshots[i].GetProperty("vm-clock-nsec").GetInt64(),
                mine.VmClockNanoseconds);
        }
    }

    private static async Task CompareAsync(BlockNode node, SafeFileHandle flat, long offset, int count, string name)
    {
        byte[] ours = new byte[count];
        byte[] theirs = new byte[count];
        await node.ReadAsync(offset, ours);
        ReadFully(flat, offset, theirs);
        int same = ours.AsSpan().CommonPrefixLength(theirs);
        Assert.True(
            same == count,
            $"{name}: read of {count} bytes at 0x{offset:x} differs from byte 0x{offset + same:x} on");
    }

    private static void ReadFully(SafeFileHandle file, long offset, Span<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            int read = RandomAccess.Read(file, buffer, offset);
            Assert.True(read > 0, "the flat file is too short");
            offset += read;
            buffer = buffer[read..];
        }
    }

    private static bool IsZero(SafeFileHandle flat, long offset, long count)
    {
        byte[] buffer = new byte[1 << 20];
        // Long runs are sampled: the untouched middle of a large disk.
        long step = count > 16 << 20 ? count / 4 : buffer.Length;
        for (long at = 0; at < count; at += step)
        {
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, count - at));
            ReadFully(flat, offset + at, part);
            if (part.ContainsAnyExcept((byte)0))
            {
                return false;
            }
        }

        return true;
    }

    private static string Text(bool data, bool zero, bool present, int depth, long? offset) =>
        $"data={data} zero={zero} present={present} depth={depth} offset={(offset is null ? "none" : $"0x{offset:x}")}";

    /// <summary>
    /// Differences in what a program bothers to find out, not in what the image says (the content is compared anyway):
    /// zeroes have no place that matters, and a place whose bytes the host file does not store may be called data, zero
    /// or both.
    /// </summary>
    private static bool IsSameInEffect(in BlockExtent ours, PeerMap.Run theirs)
    {
        bool sameLayer = ours.Depth == theirs.Depth && (ours.Flags & ExtentFlags.Present) != 0 == theirs.Present;
        return sameLayer
            && ((ours.IsZero && !ours.IsData && theirs.Zero && !theirs.Data)
                || (ours.IsData && theirs.Zero)
                || (ours.IsZero && theirs.Data && ours.Depth > 0));
    }

    private static void Same(object? ours, JsonElement parent, string field, string name)
    {
        if (parent.TryGetProperty(field, out JsonElement theirs))
        {
            AssertSameValue(ours, theirs, $"{name}: {field}");
        }
        else
        {
            Assert.True(ours is null or false, $"{name}: {field} is {ours}, qemu has none");
        }
    }

    private static void AssertSameValue(object? ours, JsonElement theirs, string name)
    {
        string text = JsonSerializer.Serialize(ours);
        Assert.True(
            JsonElement.DeepEquals(JsonDocument.Parse(text).RootElement, theirs),
            $"{name}: we say {text}, qemu {theirs.GetRawText()}");
    }
}
