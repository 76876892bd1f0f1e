using System.Text;
using ImageMount.Core.Graph;

namespace ImageMount.Core.Options;

/// <summary>Help and documentation of options, made from their declarations.</summary>
public static class OptionDocs
{
    /// <summary>The options of a driver as a Markdown table, as docs/drivers/NAME.md has it.</summary>
    public static string MarkdownTable(BlockDriver driver)
    {
        var text = new StringBuilder("| option | value | default | meaning |\n|---|---|---|---|\n");
        foreach (Row row in Rows(driver))
        {
            text.Append("| ").Append(string.Join(", ", row.Keys.Select(key => $"`{key}`"))).Append(" | ")
                .Append(Escape(row.Value)).Append(" | ")
                .Append(row.Default.Length == 0 ? "" : $"`{Escape(row.Default)}`").Append(" | ")
                .Append(Escape(row.Help)).Append(" |\n");
        }

        return text.ToString();
    }

    /// <summary>The options of a driver for a terminal of 100 columns.</summary>
    public static string HelpText(BlockDriver driver)
    {
        var text = new StringBuilder($"{driver.Name}: {driver.Summary}\n");
        foreach (Row row in Rows(driver))
        {
            string value = row.Default.Length == 0 ? row.Value : $"{row.Value} [{row.Default}]";
            text.Append("  ").Append(string.Join(", ", row.Keys)).Append("  ").Append(value).Append('\n');
            Wrap(text, row.Help, "      ", 100);
        }

        return text.ToString();
    }

    /// <summary>Every key of a driver, for shell completion.</summary>
    public static IReadOnlyList<string> Keys(BlockDriver driver) => [.. Rows(driver).SelectMany(row => row.Keys)];

    private static IEnumerable<Row> Rows(BlockDriver driver)
    {
        OptionSchema schema = OptionSchema.Of(driver.OptionsType);
        foreach (OptionDeclaration option in schema.Options)
        {
            yield return new Row(
                [option.Name, .. option.Aliases], option.Expected, option.Required ? "required" : option.DefaultText,
                option.Help);
        }

        if (driver.Kind != DriverKind.Protocol && schema.Children.All(child => child.Role != "file"))
        {
            yield return new Row(["file"], "a node", "", driver.Kind == DriverKind.Filter
                ? "The image below: a path, a URI, or a group of options."
                : "Where the bytes of the image are: a path, a URI, or a group of options.");
        }

        foreach (ChildOptionAttribute child in schema.Children)
        {
            yield return new Row([child.IsList ? child.Role + ".N" : child.Role], "a node", "", child.Help);
        }
    }

    private static string Escape(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);

    private static void Wrap(StringBuilder text, string sentence, string indent, int width)
    {
        int column = 0;
        foreach (string word in sentence.Split(' '))
        {
            if (column > 0 && column + 1 + word.Length > width)
            {
                text.Append('\n');
                column = 0;
            }

            text.Append(column == 0 ? indent : " ").Append(word);
            column += column == 0 ? indent.Length + word.Length : 1 + word.Length;
        }

        text.Append('\n');
    }

    private readonly record struct Row(string[] Keys, string Value, string Default, string Help);
}
