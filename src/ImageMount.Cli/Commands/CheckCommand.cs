using System.Globalization;
using System.Text;
using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Secrets;
using ImageMount.Mounting.Reports;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount check`: exit codes as qemu-img's, where 1 means that the check itself could not run.</summary>
internal static class CheckCommand
{
    public static async Task<int> RunAsync(CheckArguments arguments)
    {
        ImageRequest request = Arguments.Image(arguments, "check");
        Arguments.NoMore(arguments.Rest, "check");
        bool json = Arguments.WantsJson(arguments.Json, arguments.Output);

        // The structure of one image is checked; its parents need not even be there.
        using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: false);
        await using Graph graph = await ImageOpening.OpenAsync(
            request, new OpenFlags { NoBacking = true, Secrets = secrets, AllowLocked = true })
            .ConfigureAwait(false);
        BlockNode image = graph.Image;
        if (image.Device is not ICheckable checkable)
        {
            Console.Error.WriteLine($"imgmount: {image.Name}: images of format '{image.Driver}' have nothing to check");
            return ExitCode.CheckNotSupported;
        }

        CheckReport report = await checkable.CheckAsync(CancellationToken.None).ConfigureAwait(false);
        if (json)
        {
            Console.Out.Write(Encoding.UTF8.GetString(
                ReportJson.Make(writer => CheckJson.Write(writer, request.Shown, image.Driver, report))));
        }
        else if (!arguments.Quiet)
        {
            Write(report);
        }

        return report.CheckErrors > 0 ? ExitCode.Failed
            : report.Corruptions > 0 ? ExitCode.CheckCorruptions
            : report.Leaks > 0 ? ExitCode.CheckLeaks
            : ExitCode.Done;
    }

    private static void Write(CheckReport report)
    {
        foreach (string problem in report.Problems)
        {
            Console.Out.WriteLine(problem);
        }

        long more = report.Corruptions + report.Leaks + report.CheckErrors - report.Problems.Count;
        if (report.Problems.Count == CheckReport.MaxProblems && more > 0)
        {
            Console.Out.WriteLine("... and more of them.");
        }

        foreach (string note in report.Notes)
        {
            Console.Out.WriteLine("Note: " + note);
        }

        var text = new StringBuilder();
        if (report is { Corruptions: 0, Leaks: 0, CheckErrors: 0 })
        {
            text.AppendLine("No errors were found on the image.");
        }

        AppendIf(
            text, report.Corruptions, "errors were found on the image. Data may be corrupted; do not write to it.");
        AppendIf(text, report.Leaks, "leaked units were found. This wastes space, but no data is at risk.");
        AppendIf(text, report.CheckErrors, "places could not be checked.");
        if (report is { TotalClusters: > 0 and { } total, AllocatedClusters: { } allocated })
        {
            text.Append(CultureInfo.InvariantCulture, $"{allocated}/{total} = {Percent(allocated, total)} allocated, ")
                .Append(Percent(report.FragmentedClusters ?? 0, allocated)).Append(" fragmented, ")
                .Append(Percent(report.CompressedClusters ?? 0, allocated)).AppendLine(" compressed");
        }

        if (report.ImageEndOffset is { } end)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"Image end offset: {end}");
        }

        Console.Out.Write(text);
    }

    private static void AppendIf(StringBuilder text, long count, string what)
    {
        if (count > 0)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"{count} {what}");
        }
    }

    private static string Percent(long part, long whole) =>
        whole == 0 ? "0.00%" : string.Create(CultureInfo.InvariantCulture, $"{part * 100.0 / whole:0.00}%");
}
