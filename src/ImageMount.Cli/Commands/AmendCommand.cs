using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Commands;

/// <summary>`imgmount amend`: key slots.</summary>
internal static class AmendCommand
{
    public static async Task<int> RunAsync(AmendArguments arguments)
    {
        ImageRequest request = Arguments.Image(arguments, "amend");
        Arguments.NoMore(arguments.Rest, "amend");
        string[] texts = [.. arguments.Options];
        if (texts.Length == 0)
        {
            throw new UsageException("-o OPTIONS is missing", "See 'imgmount amend --help'.");
        }

        var options = new OptionMap();
        foreach (string text in texts)
        {
            OptionSyntax.AddPairs(options, text);
        }

        using SecretStore secrets = SecretArguments.Read(arguments, mayAsk: true);
        await using Graph graph = await ImageOpening.OpenAsync(
            request, new OpenFlags { Writable = true, Secrets = secrets, NoBacking = true }).ConfigureAwait(false);
        foreach (string warning in graph.Warnings)
        {
            Messages.Warn(warning);
        }

        BlockNode image = graph.Image;
        if (image.Device is not IAmendable amendable)
        {
            throw new CommandException($"{image.Name}: images of format '{image.Driver}' cannot be amended");
        }

        object bound = OptionBinder.Bind(
            options, $"amending an image of format '{image.Driver}'", "", [amendable.AmendOptionsType], [])[0];
        try
        {
            await amendable.AmendAsync(bound, secrets, arguments.Force, CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            e.Stamp(image.Name, null);
            throw;
        }

        await graph.CloseAsync().ConfigureAwait(false);
        return ExitCode.Done;
    }
}
