using System.Text.Json;
using ImageMount.Interop.Tests.Matrix;

namespace ImageMount.Interop.Tests.Peers;

/// <summary>qemu-img map, parsed.</summary>
public static class PeerMap
{
    /// <summary>One run of qemu's answer; an offset is missing where bytes are compressed or not stored.</summary>
    public sealed record Run(long Start, long Length, int Depth, bool Present, bool Zero, bool Data, long? Offset);

    public static List<Run> Read(QemuImage image)
    {
        using JsonDocument json = JsonDocument.Parse(
            PeerTool.Img("map", "--output=json", "-f", image.Format, image.Path));
        var runs = new List<Run>();
        foreach (JsonElement run in json.RootElement.EnumerateArray())
        {
            runs.Add(new Run(
                run.GetProperty("start").GetInt64(), run.GetProperty("length").GetInt64(),
                run.GetProperty("depth").GetInt32(), run.GetProperty("present").GetBoolean(),
                run.GetProperty("zero").GetBoolean(), run.GetProperty("data").GetBoolean(),
                run.TryGetProperty("offset", out JsonElement offset) ? offset.GetInt64() : null));
        }

        return runs;
    }
}
