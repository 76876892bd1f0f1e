using System.Globalization;
using Spectre.Console;

namespace ImageMount.Cli.Output;

/// <summary>
/// A table for people: on a terminal fitted to its width with a coloured head; into a pipe or a file plain columns,
/// never
/// folded, so that they can be cut and grepped.
/// </summary>
public sealed class PlainTable(params string[] heads)
{
    private readonly List<string[]> _rows = [];

    /// <summary>A number as text.</summary>
    public static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);

    /// <summary>Adds a row.</summary>
    public void Add(params string[] cells) => _rows.Add([.. cells.Select(Visible)]);

    /// <summary>Writes the table to stdout.</summary>
    public void Write()
    {
        if (Console.IsOutputRedirected)
        {
            WritePlain();
            return;
        }

        var table = new Table { Border = TableBorder.Simple, ShowRowSeparators = false };
        foreach (string head in heads)
        {
            table.AddColumn(new TableColumn(new Text(head, new Style(decoration: Decoration.Bold))));
        }

        foreach (string[] row in _rows)
        {
            table.AddRow([.. row.Select(cell => new Text(cell))]);
        }

        AnsiConsole.Write(table); // honours NO_COLOR and the terminal's width
    }

    private void WritePlain()
    {
        int[] widths = [.. heads.Select((head, i) => _rows.Select(r => r[i].Length).Append(head.Length).Max())];
        foreach (string[] row in _rows.Prepend(heads))
        {
            string line = string.Join("  ", row.Select((cell, i) => cell.PadRight(widths[i])));
            Console.Out.WriteLine(line.TrimEnd());
        }
    }

    // Names come from images: no control characters, which could steer the terminal.
    private static string Visible(string cell) => string.Concat(cell.Select(c => char.IsControl(c) ? '?' : c));
}
