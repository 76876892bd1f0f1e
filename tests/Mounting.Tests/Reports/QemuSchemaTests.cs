using System.Text.Json;
using ImageMount.Mounting.Reports;

namespace ImageMount.Mounting.Tests.Reports;

/// <summary>
/// Our JSON beside qemu-img's of the same image: the same keys, of the same types, with the same values.
/// </summary>
public sealed class QemuSchemaTests
{
    [SkippableTheory]
    [InlineData("qcow2")]
    [InlineData("raw")]
    [InlineData("vmdk")]
    public async Task Info_has_qemus_keys_and_values(string format)
    {
        using var folder = new TempDir();
        string path = await MakeAsync(folder, format);
        JsonElement theirs = Parse(Qemu.Img("info", "--output=json", "-f", format, path));
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver={format},file.filename={path}");
        DeviceInfo info = await InfoReport.DescribeAsync(graph.Image, default);
        JsonElement ours = Parse(ReportJson.Make(json => InfoReport.Write(json, info)));
        AssertSame(theirs, ours, "$");
    }

    [SkippableFact]
    public async Task Info_of_a_chain_with_snapshots_has_qemus_keys_and_values()
    {
        using var folder = new TempDir();
        string below = await MakeAsync(folder, "qcow2");
        string top = folder.File("top.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", top);
        Qemu.Img("snapshot", "-c", "first", top);
        Qemu.Img("snapshot", "-c", "zwei", top);
        JsonElement theirs = Parse(Qemu.Img("info", "--output=json", "--backing-chain", top));
        await using Graph graph = await TestGraph.OpenAsync(top);
        IReadOnlyList<DeviceInfo> chain = await InfoReport.DescribeChainAsync(graph.Image, default);
        JsonElement ours = Parse(ReportJson.Make(json =>
        {
            json.WriteStartArray();
            foreach (DeviceInfo info in chain)
            {
                InfoReport.Write(json, info);
            }

            json.WriteEndArray();
        }));
        AssertSame(theirs, ours, "$");
    }

    [SkippableTheory]
    [InlineData("qcow2")]
    [InlineData("raw")]
    [InlineData("vmdk")]
    public async Task Map_is_qemus_map(string format)
    {
        using var folder = new TempDir();
        string path = await MakeAsync(folder, format);
        JsonElement theirs = Parse(Qemu.Img("map", "--output=json", "-f", format, path));
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver={format},file.filename={path}");
        AssertSame(theirs, await MapAsync(graph), "$");
    }

    [SkippableFact]
    public async Task Map_of_a_chain_is_qemus_map()
    {
        using var folder = new TempDir();
        string below = await MakeAsync(folder, "qcow2");
        string top = folder.File("top.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", top, "24M");
        Qemu.Io("qcow2", top, "write -P 9 1M 64k", "write -z 5M 128k");
        JsonElement theirs = Parse(Qemu.Img("map", "--output=json", top));
        await using Graph graph = await TestGraph.OpenAsync(top);
        AssertSame(theirs, await MapAsync(graph), "$");
    }

    [SkippableFact]
    public async Task Check_has_qemus_keys_and_values()
    {
        using var folder = new TempDir();
        string path = await MakeAsync(folder, "qcow2");
        JsonElement theirs = Parse(Qemu.Img("check", "--output=json", path));
        await using Graph graph = await TestGraph.OpenAsync(path);
        CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
        AssertSame(theirs, Parse(ReportJson.Make(json => CheckJson.Write(json, path, "qcow2", report))), "$");
    }

    private static async Task<JsonElement> MapAsync(Graph graph)
    {
        var text = new MemoryStream();
        await foreach (ReadOnlyMemory<byte> piece in MapReport.JsonAsync(graph.Root, 0, graph.Root.Length))
        {
            text.Write(piece.Span);
        }

        return Parse(text.ToArray());
    }

    /// <summary>An image of 16 MiB with data, zeroes and holes.</summary>
    private static async Task<string> MakeAsync(TempDir folder, string format)
    {
        await Task.CompletedTask;
        string path = folder.File("disk." + format);
        Qemu.Img("create", "-q", "-f", format, path, "16M");
        Qemu.Io(format, path, "write -P 5 64k 1M", "write -z 4M 1M", "write -P 6 9M 64k");
        return path;
    }

    private static JsonElement Parse(string text) => JsonDocument.Parse(text).RootElement;

    private static JsonElement Parse(byte[] text) => JsonDocument.Parse(text).RootElement;

    private static void AssertSame(JsonElement theirs, JsonElement ours, string path)
    {
        Assert.True(theirs.ValueKind == ours.ValueKind, $"{path}: qemu-img has {theirs}, we have {ours}");
        switch (theirs.ValueKind)
        {
            case JsonValueKind.Object:
                Assert.Equal(
                    theirs.EnumerateObject().Select(p => path + "." + p.Name).Order(),
                    ours.EnumerateObject().Select(p => path + "." + p.Name).Order());
                foreach (JsonProperty property in theirs.EnumerateObject())
                {
                    AssertSame(property.Value, ours.GetProperty(property.Name), path + "." + property.Name);
                }

                break;
            case JsonValueKind.Array:
                Assert.True(theirs.GetArrayLength() == ours.GetArrayLength(), $"{path}:\n{theirs}\n{ours}");
                for (int i = 0; i < theirs.GetArrayLength(); i++)
                {
                    AssertSame(theirs[i], ours[i], $"{path}[{i}]");
                }

                break;
            case JsonValueKind.String when theirs.ToString() == "" && path.EndsWith("].format", StringComparison.Ordinal):
                break; // QEMU 7.2 forgets the kind of a sparse extent; later ones say SPARSE, as we do.
            default:
                Assert.True(theirs.ToString() == ours.ToString(), $"{path}: qemu-img has {theirs}, we have {ours}");
                break;
        }
    }
}
