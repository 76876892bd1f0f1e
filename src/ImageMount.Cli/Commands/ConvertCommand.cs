using System.Globalization;
using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount convert`, with qemu-img's flags. Ctrl-C leaves nothing behind.</summary>
internal static class ConvertCommand
{
    public static async Task<int> RunAsync(ConvertArguments arguments)
    {
        string format = arguments.TargetFormat ?? "raw";
        var maker = new ImageMaker(Drivers.Registry);
        if (CreateOptions.WantsHelp(arguments.TargetOptions))
        {
            CreateOptions.WriteHelp(format, maker);
            return ExitCode.Done;
        }

        ImageRequest request = Arguments.Image(arguments, "convert");
        string target = Arguments.Required(arguments.Target, "FILE", "convert");
        Arguments.NoMore(arguments.Rest, "convert");
        OptionMap options = CreateOptions.Parse(arguments.TargetOptions);
        if (options.Contains("backing_file"))
        {
            throw new UsageException("convert makes whole images", "Without backing_file.");
        }

        using var stop = new CancellationTokenSource();
        ConsoleCancelEventHandler onCancel = (_, e) =>
        {
            e.Cancel = true;
            stop.Cancel();
        };
        Console.CancelKeyPress += onCancel;
        try
        {
            using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: true);
            await using Graph source = await ImageOpening.OpenAsync(
                request, new OpenFlags { Secrets = secrets }, stop.Token).ConfigureAwait(false);
            foreach (string warning in source.Warnings)
            {
                Messages.Warn(warning);
            }

            var create = new CreateRequest
            {
                Overwrite = arguments.Overwrite,
                Flags = new OpenFlags { Writable = true, Secrets = secrets },
                Warning = Messages.Warn,
            };
            await RunAsync(maker, format, target, options, source.Root, create, arguments, stop.Token)
                .ConfigureAwait(false);
            if (!arguments.Quiet)
            {
                Console.Out.WriteLine($"{target}: made, format {format}, {source.Root.Length} bytes");
            }

            return ExitCode.Done;
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.Cancelled && stop.IsCancellationRequested)
        {
            throw new CommandException("interrupted; nothing was left behind", e);
        }
        catch (OperationCanceledException e)
        {
            throw new CommandException("interrupted; nothing was left behind", e);
        }
        finally
        {
            Console.CancelKeyPress -= onCancel;
        }
    }

    private static async Task RunAsync(
        ImageMaker maker, string format, string target, OptionMap options, BlockNode source, CreateRequest create,
        ConvertArguments arguments, CancellationToken cancellationToken)
    {
        options.Set("size", options.Get("size") ?? source.Length.ToString(CultureInfo.InvariantCulture));
        if (maker.IsSequential(format, options))
        {
            await maker.CreateFromAsync(format, target, options, source, create, cancellationToken)
                .ConfigureAwait(false);
            return;
        }

        int shown = -1;
        Action<long>? progress = !arguments.Progress ? null : done =>
        {
            int percent = source.Length == 0 ? 100 : (int)(done * 100.0 / source.Length);
            if (percent != shown)
            {
                shown = percent;
                Console.Error.Write($"\r{percent,3}%");
            }
        };
        await maker.CreateAndCopyAsync(format, target, options, source, create, progress, cancellationToken)
            .ConfigureAwait(false);
        if (progress is not null)
        {
            Console.Error.WriteLine();
        }
    }
}
