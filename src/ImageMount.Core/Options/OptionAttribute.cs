namespace ImageMount.Core.Options;

/// <summary>
/// Declares one option of a driver on a property of its options record: the only place where the option is written
/// down. Parsing of every syntax, help, completion and the docs tables come from it. Property types: string, bool,
/// int, long, enum, their nullable forms; a size (<see cref="IsSize"/>) accepts suffixes k, M, G, T (powers of 1024). A
/// nullable <see cref="OptionMap"/> is a group (a list, a nested object) that the driver binds to records by itself.
/// </summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class OptionAttribute(string name, string help) : Attribute
{
    /// <summary>Key as the user writes it ("lazy-refcounts").</summary>
    public string Name { get; } = name;

    /// <summary>One sentence for help and docs.</summary>
    public string Help { get; } = help;

    /// <summary>True when the driver cannot open without it.</summary>
    public bool Required { get; init; }

    /// <summary>True when the value is a number of bytes and accepts suffixes.</summary>
    public bool IsSize { get; init; }

    /// <summary>Smallest accepted number.</summary>
    public long Min { get; init; } = long.MinValue;

    /// <summary>Largest accepted number.</summary>
    public long Max { get; init; } = long.MaxValue;

    /// <summary>Other spellings that QEMU accepts.</summary>
    public string[] Aliases { get; init; } = [];

    /// <summary>True when messages must not show the value.</summary>
    public bool IsSecret { get; init; }
}

/// <summary>How the user writes an enum member where kebab-case of its name is not it ("1.1").</summary>
[AttributeUsage(AttributeTargets.Field)]
public sealed class OptionValueAttribute(string text) : Attribute
{
    /// <summary>The spelling.</summary>
    public string Text { get; } = text;
}

/// <summary>
/// Declares that a driver has a child node under this key ("file", "backing"), given inline or opened by the driver.
/// </summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
public sealed class ChildOptionAttribute(string role, string help) : Attribute
{
    /// <summary>Key and role of the child.</summary>
    public string Role { get; } = role;

    /// <summary>One sentence for help and docs.</summary>
    public string Help { get; } = help;

    /// <summary>True when several children are keyed role.0, role.1, ….</summary>
    public bool IsList { get; init; }
}
