using ImageMount.Cli;
using ImageMount.Cli.Background;
using ImageMount.Cli.Commands;
using ImageMount.Cli.Output;

// The background copy of a mount: no command line to parse, nothing that it does not need is loaded.
if (args is [BackgroundProcess.Marker])
{
    return await MountServer.RunInBackgroundAsync().ConfigureAwait(false);
}

bool debug = args.Contains("--debug");
try
{
    return await RunAsync(args).ConfigureAwait(false);
}
catch (Exception e)
{
    return Messages.Report(e, debug);
}

static async Task<int> RunAsync(string[] args)
{
    (string verb, string[] rest) = CommandLineReader.SplitVerb(args);
    int end = Array.IndexOf(rest, "--");
    IEnumerable<string> options = end < 0 ? rest : rest[..end];
    if (options.Contains("--help") || options.Contains("-h") || args is ["help", ..])
    {
        bool isWhole = rest.Length == args.Length;
        Console.Out.Write(isWhole ? HelpText.ForProgram() : HelpText.ForVerb(verb));
        return ExitCode.Done;
    }

    if (args is ["--version", ..] or ["-V", ..])
    {
        Console.Out.WriteLine(HelpText.Version);
        return ExitCode.Done;
    }

    if (args.Length == 0)
    {
        Console.Error.Write(HelpText.ForProgram());
        return ExitCode.Usage;
    }

    return verb switch
    {
        "umount" => await UmountCommand.RunAsync(CommandLineReader.Parse<UmountArguments>(rest)).ConfigureAwait(false),
        "list" => ListCommand.Run(CommandLineReader.Parse<ListArguments>(rest)),
        "doctor" => DoctorCommand.Run(CommandLineReader.Parse<DoctorArguments>(rest)),
        "info" => await InfoCommand.RunAsync(CommandLineReader.Parse<InfoArguments>(rest)).ConfigureAwait(false),
        "map" => await MapCommand.RunAsync(CommandLineReader.Parse<MapArguments>(rest)).ConfigureAwait(false),
        "commit" => await CommitCommand.RunAsync(CommandLineReader.Parse<CommitArguments>(rest)).ConfigureAwait(false),
        "amend" => await AmendCommand.RunAsync(CommandLineReader.Parse<AmendArguments>(rest)).ConfigureAwait(false),
        "check" => await CheckCommand.RunAsync(CommandLineReader.Parse<CheckArguments>(rest)).ConfigureAwait(false),
        "create" => await CreateCommand.RunAsync(CommandLineReader.Parse<CreateArguments>(rest)).ConfigureAwait(false),
        "convert" => await ConvertCommand.RunAsync(CommandLineReader.Parse<ConvertArguments>(rest)).ConfigureAwait(false),
        _ => await MountCommand.RunAsync(rest).ConfigureAwait(false),
    };
}
