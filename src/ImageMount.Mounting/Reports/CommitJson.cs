using System.Text.Json;
using ImageMount.Core.Info;

namespace ImageMount.Mounting.Reports;

/// <summary>What .imgmount/commit.json says: how far what was written is in the place that the disk stands
/// for.</summary>
public static class CommitJson
{
    /// <summary>Name of the report.</summary>
    public const string FileName = "commit.json";

    /// <summary>Writes the last report of a device.</summary>
    public static async IAsyncEnumerable<ReadOnlyMemory<byte>> ReportAsync(ICommittable device)
    {
        await Task.CompletedTask.ConfigureAwait(false);
        yield return ReportJson.Make(json => Write(json, device.LastCommit));
    }

    /// <summary>Reads one; null when the text is not what is written here.</summary>
    public static CommitReport? Read(ReadOnlyMemory<byte> text)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            JsonElement root = document.RootElement;
            return new CommitReport(
                root.GetProperty("done").GetBoolean(),
                root.GetProperty("reason").GetString(),
                [.. root.GetProperty("notes").EnumerateArray().Select(note => note.GetString() ?? "")],
                root.GetProperty("journal").GetString());
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return null;
        }
    }

    private static void Write(Utf8JsonWriter json, CommitReport report)
    {
        json.WriteStartObject();
        json.WriteBoolean("done", report.IsDone);
        json.WriteString("reason", report.Reason);
        json.WriteStartArray("notes");
        foreach (string note in report.Notes)
        {
            json.WriteStringValue(note);
        }

        json.WriteEndArray();
        json.WriteString("journal", report.Journal);
        json.WriteEndObject();
    }
}
