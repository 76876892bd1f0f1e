using System.Globalization;
using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.Mounting.Reports;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount map`.</summary>
internal static class MapCommand
{
    public static async Task<int> RunAsync(MapArguments arguments)
    {
        ImageRequest request = Arguments.Image(arguments, "map");
        Arguments.NoMore(arguments.Rest, "map");
        bool json = Arguments.WantsJson(arguments.Json, arguments.Output);
        long start = Arguments.Bytes(arguments.Start, "start-offset") ?? 0;
        long length = Arguments.Bytes(arguments.MaxLength, "max-length") ?? long.MaxValue;
        using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: true);
        await using Graph graph = await ImageOpening.OpenAsync(request, new OpenFlags { Secrets = secrets })
            .ConfigureAwait(false);
        foreach (string warning in graph.Warnings)
        {
            Messages.Warn(warning);
        }

        start = Math.Min(start, graph.Root.Length);
        long end = start + Math.Min(length, graph.Root.Length - start);
        if (json)
        {
            using Stream output = Console.OpenStandardOutput();
            await foreach (
                ReadOnlyMemory<byte> piece in MapReport.JsonAsync(graph.Root, start, end).ConfigureAwait(false))
            {
                await output.WriteAsync(piece).ConfigureAwait(false);
            }

            return ExitCode.Done;
        }

        // As qemu-img: what is stored, and where; zeroes and holes are what is not listed.
        Console.Out.WriteLine("Offset          Length          Mapped to       File");
        await foreach (MapLine line in MapReport.LinesAsync(graph.Root, start, end).ConfigureAwait(false))
        {
            if (line.Extent is { IsData: true, IsZero: false } extent)
            {
                bool isPlain = (extent.Flags & Core.Block.ExtentFlags.HostOffset) != 0;
                string where = isPlain ? Hex(extent.HostOffset)
                    : (extent.Flags & Core.Block.ExtentFlags.Compressed) != 0 ? "compressed" : "?";
                Console.Out.WriteLine(
                    $"{Hex(line.Start),-15} {Hex(extent.Length),-15} {where,-15} {extent.HostNode?.Name}".TrimEnd());
            }
        }

        return ExitCode.Done;
    }

    private static string Hex(long value) =>
        value == 0 ? "0" : string.Create(CultureInfo.InvariantCulture, $"0x{value:x}");
}
