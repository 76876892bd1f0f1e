using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;

namespace ImageMount.Cli.Commands;

/// <summary>"-o" of the commands that make images.</summary>
internal static class CreateOptions
{
    /// <summary>True when the options of the format are asked for.</summary>
    public static bool WantsHelp(IEnumerable<string> texts) => texts.Any(text => text is "help" or "?");

    /// <summary>All of them together; the same key twice is an error.</summary>
    public static OptionMap Parse(IEnumerable<string> texts)
    {
        var map = new OptionMap();
        foreach (string text in texts)
        {
            OptionSyntax.AddPairs(map, text);
        }

        return map;
    }

    /// <summary>A table of a format's options.</summary>
    public static void WriteHelp(string format, ImageMaker maker)
    {
        Console.Out.WriteLine($"Options for making an image of format {format}:");
        foreach (OptionDeclaration option in OptionSchema.Of(maker.CreatorOf(format).OptionsType).Options)
        {
            string left = $"  {option.Name}=<{option.Expected}>";
            Console.Out.WriteLine(left.Length < 34 ? $"{left,-34}{option.Help}" : $"{left}\n{"",-34}{option.Help}");
        }
    }
}
