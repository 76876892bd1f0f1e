using System.Globalization;
using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount create`, with qemu-img's flags.</summary>
internal static class CreateCommand
{
    public static async Task<int> RunAsync(CreateArguments arguments)
    {
        string format = arguments.Format ?? "raw";
        var maker = new ImageMaker(Drivers.Registry);
        if (CreateOptions.WantsHelp(arguments.Options))
        {
            CreateOptions.WriteHelp(format, maker);
            return ExitCode.Done;
        }

        string file = Arguments.Required(arguments.File, "FILE", "create");
        Arguments.NoMore(arguments.Rest, "create");
        OptionMap options = CreateOptions.Parse(arguments.Options);
        Add(options, "backing_file", arguments.Backing, "-b");
        Add(options, "backing_fmt", arguments.BackingFormat, "-F");
        Add(options, "size", Arguments.Bytes(arguments.Size, "SIZE")?.ToString(CultureInfo.InvariantCulture), "SIZE");
        using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: true);
        await maker.CreateAsync(format, file, options, new CreateRequest
        {
            Overwrite = arguments.Overwrite,
            CheckParent = !arguments.Unsafe,
            Flags = new OpenFlags { Writable = true, Secrets = secrets },
            Warning = Messages.Warn,
        }).ConfigureAwait(false);
        if (!arguments.Quiet)
        {
            Console.Out.WriteLine($"{file}: made, format {format}");
        }

        return ExitCode.Done;
    }

    private static void Add(OptionMap options, string key, string? value, string flag)
    {
        if (value is null)
        {
            return;
        }

        if (options.Contains(key))
        {
            throw new UsageException($"{flag} and -o {key}=… say the same thing");
        }

        options.Set(key, value);
    }
}
