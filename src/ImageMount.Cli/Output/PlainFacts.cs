namespace ImageMount.Cli.Output;

/// <summary>Lines "name: value", values under one another.</summary>
public sealed class PlainFacts
{
    private readonly List<(string Name, string Value)> _facts = [];

    /// <summary>Adds a line; null adds none.</summary>
    public void Add(string name, string? value)
    {
        if (value is not null)
        {
            _facts.Add((name, string.Concat(value.Select(c => char.IsControl(c) ? '?' : c))));
        }
    }

    /// <summary>Writes the lines to stdout.</summary>
    public void Write()
    {
        int width = _facts.Select(f => f.Name.Length).DefaultIfEmpty(0).Max() + 2;
        foreach ((string name, string value) in _facts)
        {
            Console.Out.WriteLine((name + ":").PadRight(width) + value);
        }
    }
}
