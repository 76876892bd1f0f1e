using System.Text.Json;

namespace ImageMount.Interop.Tests.Peers;

/// <summary>qemu-img check, parsed.</summary>
public sealed record PeerCheck(
    int ExitCode, long Corruptions, long Leaks, long CheckErrors, long? Total, long? Allocated, long? Compressed,
    long? Fragmented, long? ImageEnd, string Text)
{
    /// <summary>0 clean, 2 corruption, 3 leaks only, 1 could not be checked.</summary>
    public static PeerCheck Run(string path, string format)
    {
        PeerResult result = PeerTool.TryImg("check", "--output=json", "-f", format, path);
        int start = result.Output.IndexOf("\n{", StringComparison.Ordinal) is var at and >= 0 ? at : 0;
        if (!result.Output.AsSpan(start).TrimStart().StartsWith("{"))
        {
            return new PeerCheck(result.ExitCode, 0, 0, 0, null, null, null, null, null, result.ToString());
        }

        using JsonDocument json = JsonDocument.Parse(result.Output.AsMemory(start));
        long? Get(string name) =>
            json.RootElement.TryGetProperty(name, out JsonElement value) ? value.GetInt64() : null;
        return new PeerCheck(
            result.ExitCode, Get("corruptions") ?? 0, Get("leaks") ?? 0, Get("check-errors") ?? 0,
            Get("total-clusters"), Get("allocated-clusters"), Get("compressed-clusters"), Get("fragmented-clusters"),
            Get("image-end-offset"), result.ToString());
    }
}
