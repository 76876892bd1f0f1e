using System.Globalization;
using System.Text;
using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Secrets;
using ImageMount.Mounting.Partitions;
using ImageMount.Mounting.Reports;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount info`.</summary>
internal static class InfoCommand
{
    public static async Task<int> RunAsync(InfoArguments arguments)
    {
        ImageRequest request = Arguments.Image(arguments, "info");
        Arguments.NoMore(arguments.Rest, "info");
        bool json = Arguments.WantsJson(arguments.Json, arguments.Output);

        // What an image is can be told without its passphrase; what partitions it has cannot.
        using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: false);
        await using Graph graph = await ImageOpening.OpenAsync(
            request, new OpenFlags { Secrets = secrets, AllowLocked = true }).ConfigureAwait(false);
        IReadOnlyList<DeviceInfo> chain = arguments.BackingChain
            ? await InfoReport.DescribeChainAsync(graph.Image, CancellationToken.None).ConfigureAwait(false)
            : [await InfoReport.DescribeAsync(graph.Image, CancellationToken.None).ConfigureAwait(false)];
        foreach (string warning in graph.Warnings)
        {
            Messages.Warn(warning);
        }

        if (json)
        {
            WriteJson(chain, arguments.BackingChain);
            return ExitCode.Done;
        }

        bool isLocked = secrets.IsEmpty && chain.Any(info => info.Encrypted is true);
        PartitionTable? table = isLocked ? null
            : await PartitionScanner.ScanAsync(graph.Root).ConfigureAwait(false);
        foreach (DeviceInfo info in chain)
        {
            WriteFacts(info);
        }

        if (table is not null)
        {
            WritePartitions(table);
        }

        return ExitCode.Done;
    }

    private static void WriteJson(IReadOnlyList<DeviceInfo> chain, bool asArray)
    {
        byte[] text = ReportJson.Make(json =>
        {
            if (asArray)
            {
                json.WriteStartArray();
            }

            foreach (DeviceInfo info in chain)
            {
                InfoReport.Write(json, info);
            }

            if (asArray)
            {
                json.WriteEndArray();
            }
        });
        Console.Out.Write(Encoding.UTF8.GetString(text));
    }

    private static void WriteFacts(DeviceInfo info)
    {
        var facts = new PlainFacts();
        facts.Add("image", info.FileName);
        facts.Add("format", info.Format);
        facts.Add("virtual size", Sizes.Both(info.VirtualSize));
        facts.Add("disk size", info.ActualSize is { } actual ? Sizes.Human(actual) : null);
        facts.Add("cluster size", info.ClusterSize is { } cluster ? Sizes.Human(cluster) : null);
        facts.Add("not closed properly", info.DirtyFlag is true ? "yes: imgmount check" : null);
        facts.Add("encrypted", info.Encrypted is true ? "yes" : null);
        facts.Add("backing file", info.BackingFileName);
        facts.Add(
            "actual path", info.FullBackingFileName != info.BackingFileName ? info.FullBackingFileName : null);
        facts.Add("backing format", info.BackingFormat);
        foreach ((string key, object value) in info.FormatSpecific)
        {
            facts.Add(key.Replace('-', ' '), Text(value));
        }

        facts.Write();
        if (info.Snapshots.Count > 0)
        {
            var table = new PlainTable("ID", "SNAPSHOT", "VM SIZE", "DATE", "VM CLOCK");
            foreach (SnapshotInfo s in info.Snapshots)
            {
                table.Add(
                    s.Id, s.Name, Sizes.Human(s.VmStateSize),
                    s.Date.ToLocalTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture),
                    TimeSpan.FromMilliseconds((double)s.VmClockNanoseconds / 1_000_000)
                        .ToString(@"hh\:mm\:ss\.fff", CultureInfo.InvariantCulture));
            }

            table.Write();
        }
    }

    private static void WritePartitions(PartitionTable table)
    {
        if (table.Partitions.Count > 0)
        {
            var rows = new PlainTable("FILE", "START", "SIZE", "TYPE", "NAME", "BOOT");
            foreach (Partition p in table.Partitions)
            {
                rows.Add(
                    "p" + PlainTable.Number(p.Number), PlainTable.Number(p.Offset), Sizes.Human(p.Size),
                    p.TypeName ?? p.TypeId, p.Name, p.IsBootable ? "*" : "");
            }

            rows.Write();
        }

        foreach (string warning in table.Warnings)
        {
            Messages.Warn(warning);
        }
    }

    private static string Text(object value) => value switch
    {
        bool flag => flag ? "true" : "false",
        string text => text,
        IEnumerable<KeyValuePair<string, object>> pairs =>
            string.Join(", ", pairs.Select(p => $"{p.Key}={Text(p.Value)}")),
        System.Collections.IEnumerable items => string.Join("; ", items.Cast<object>().Select(Text)),
        _ => Convert.ToString(value, CultureInfo.InvariantCulture) ?? "",
    };
}
