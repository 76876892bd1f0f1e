using System.Text.Json;
using ImageMount.Core.Info;

namespace ImageMount.Mounting.Reports;

/// <summary>The result of a check, in the schema of `qemu-img check --output=json` (ImageCheck).</summary>
public static class CheckJson
{
    /// <summary>
    /// Writes one ImageCheck object; counters that are zero or unknown are left out, as qemu-img does.
    /// </summary>
    public static void Write(Utf8JsonWriter json, string fileName, string format, CheckReport report)
    {
        json.WriteStartObject();
        WriteKnown(json, "image-end-offset", report.ImageEndOffset);
        WriteKnown(json, "total-clusters", report.TotalClusters);
        json.WriteNumber("check-errors", report.CheckErrors);
        WriteKnown(json, "corruptions", report.Corruptions);
        WriteKnown(json, "leaks", report.Leaks);
        WriteKnown(json, "fragmented-clusters", report.FragmentedClusters);
        WriteKnown(json, "allocated-clusters", report.AllocatedClusters);
        WriteKnown(json, "compressed-clusters", report.CompressedClusters);
        json.WriteString("filename", fileName);
        json.WriteString("format", format);
        json.WriteEndObject();
    }

    private static void WriteKnown(Utf8JsonWriter json, string key, long? value)
    {
        if (value is { } number and not 0)
        {
            json.WriteNumber(key, number);
        }
    }
}
