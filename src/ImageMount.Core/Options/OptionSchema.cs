using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Reflection;
using ImageMount.Core.Block;

namespace ImageMount.Core.Options;

/// <summary>What kind of value an option takes.</summary>
public enum OptionKind
{
    /// <summary>Any text.</summary>
    Text,

    /// <summary>on or off.</summary>
    Boolean,

    /// <summary>A whole number.</summary>
    Integer,

    /// <summary>A number of bytes, with suffixes.</summary>
    Size,

    /// <summary>One of a few words.</summary>
    Choice,

    /// <summary>Options of their own, which the driver binds.</summary>
    Group,
}

/// <summary>One declared option: its attribute, and what its property's type adds to that.</summary>
public sealed class OptionDeclaration
{
    private readonly PropertyInfo _property;
    private readonly OptionAttribute _attribute;
    private readonly Type _type;
    private readonly Dictionary<string, object> _choices = new(StringComparer.OrdinalIgnoreCase);
    private readonly List<string> _choiceNames = [];

    internal OptionDeclaration(PropertyInfo property, OptionAttribute attribute, object defaults)
    {
        _property = property;
        _attribute = attribute;
        _type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        Kind = KindOf(property, _type, attribute);
        if (Kind == OptionKind.Choice)
        {
            foreach (string member in Enum.GetNames(_type))
            {
                string text = OptionValues.EnumText(_type, member);
                _choices.Add(text, Enum.Parse(_type, member));
                _choiceNames.Add(text);
            }
        }

        DefaultText = Format(property.GetValue(defaults));
    }

    /// <summary>Key as the user writes it.</summary>
    public string Name => _attribute.Name;

    /// <summary>One sentence for help and docs.</summary>
    public string Help => _attribute.Help;

    /// <summary>Other spellings.</summary>
    public IReadOnlyList<string> Aliases => _attribute.Aliases;

    /// <summary>True when the driver cannot open without it.</summary>
    public bool Required => _attribute.Required;

    /// <summary>True when messages must not show the value.</summary>
    public bool IsSecret => _attribute.IsSecret;

    /// <summary>What it takes.</summary>
    public OptionKind Kind { get; }

    /// <summary>The words that a choice accepts.</summary>
    public IReadOnlyList<string> Choices => _choiceNames;

    /// <summary>The value when it is not given, as the user would write it; empty for "not set".</summary>
    public string DefaultText { get; }

    /// <summary>
    /// What values look like, for messages and docs: "on or off", "auto, on or off", "a size, at most 2M".
    /// </summary>
    public string Expected => Kind switch
    {
        OptionKind.Boolean => "on or off",
        OptionKind.Choice => _choiceNames.Count == 1
            ? _choiceNames[0]
            : string.Join(", ", _choiceNames[..^1]) + " or " + _choiceNames[^1],
        OptionKind.Integer => "a whole number" + RangeText(),
        OptionKind.Size => "a size in bytes (suffixes k, M, G, T)" + RangeText(),
        OptionKind.Group => "a group of options",
        _ => "text",
    };

    /// <summary>Sets the property from text. A value that does not fit is an InvalidArgument that says so.</summary>
    /// <param name="target">The options record.</param>
    /// <param name="value">Text from the user.</param>
    /// <param name="key">The key in full, as the user wrote it, for the message.</param>
    internal void Apply(object target, string value, string key) =>
        _property.SetValue(target, Parse(value) ?? throw Wrong(value, key));

    /// <summary>Sets a property that is a group.</summary>
    internal void Apply(object target, OptionMap group) => _property.SetValue(target, group);

    private object? Parse(string value)
    {
        switch (Kind)
        {
            case OptionKind.Boolean:
                return OptionValues.TryParseBoolean(value, out bool flag) ? flag : null;
            case OptionKind.Choice:
                return _choices.GetValueOrDefault(value);
            case OptionKind.Integer or OptionKind.Size:
                bool isNumber = Kind == OptionKind.Size
                    ? OptionValues.TryParseSize(value, out long number)
                    : OptionValues.TryParseInteger(value, out number);
                if (!isNumber || number < Min || number > Max)
                {
                    return null;
                }

                return _type == typeof(int) ? (object)(int)number : number;
            case OptionKind.Group:
                return null;
            default:
                return value.Contains('\0') ? null : value;
        }
    }

    private long Min => Math.Max(_attribute.Min, _type == typeof(int) ? int.MinValue : long.MinValue);

    private long Max => Math.Min(_attribute.Max, _type == typeof(int) ? int.MaxValue : long.MaxValue);

    private BlockException Wrong(string value, string key) =>
        new(BlockErrorKind.InvalidArgument, $"option '{key}' has a wrong value")
        {
            Found = IsSecret ? "(hidden)" : $"'{Shorten(value)}'",
            Expected = Expected,
        };

    private static string Shorten(string value) => value.Length <= 80 ? value : value[..77] + "…";

    private string RangeText()
    {
        bool hasMin = _attribute.Min != long.MinValue && (Kind != OptionKind.Size || _attribute.Min > 0);
        bool hasMax = _attribute.Max != long.MaxValue;
        return (hasMin, hasMax) switch
        {
            (true, true) => $", {Number(_attribute.Min)} to {Number(_attribute.Max)}",
            (true, false) => $", at least {Number(_attribute.Min)}",
            (false, true) => $", at most {Number(_attribute.Max)}",
            _ => "",
        };
    }

    private string Number(long value) =>
        Kind == OptionKind.Size ? OptionValues.FormatSize(value) : value.ToString(CultureInfo.InvariantCulture);

    private string Format(object? value) => value switch
    {
        null => "",
        bool flag => flag ? "on" : "off",
        Enum choice => OptionValues.EnumText(_type, choice.ToString()),
        int number => Number(number),
        long number => Number(number),
        _ => value.ToString() ?? "",
    };

    private static OptionKind KindOf(PropertyInfo property, Type type, OptionAttribute attribute)
    {
        if (type == typeof(int) || type == typeof(long))
        {
            return attribute.IsSize ? OptionKind.Size : OptionKind.Integer;
        }

        return type == typeof(string) ? OptionKind.Text
            : type == typeof(bool) ? OptionKind.Boolean
            : type.IsEnum ? OptionKind.Choice
            : type == typeof(OptionMap) ? OptionKind.Group
            : throw new InvalidOperationException(
                $"{property.DeclaringType}.{property.Name}: an option cannot be a {type.Name}");
    }
}

/// <summary>All options that a record declares. Read by reflection once per type.</summary>
public sealed class OptionSchema
{
    private static readonly ConcurrentDictionary<Type, OptionSchema> Cache = new();
    private readonly Dictionary<string, OptionDeclaration> _byKey = new(StringComparer.Ordinal);

    private OptionSchema(Type type)
    {
        Type = type;
        object defaults = Activator.CreateInstance(type)!;
        var options = new List<OptionDeclaration>();
        foreach (PropertyInfo property in type.GetProperties(BindingFlags.Public | BindingFlags.Instance))
        {
            if (property.GetCustomAttribute<OptionAttribute>() is not { } attribute)
            {
                continue;
            }

            var option = new OptionDeclaration(property, attribute, defaults);
            options.Add(option);
            foreach (string key in (string[])[attribute.Name, .. attribute.Aliases])
            {
                if (!_byKey.TryAdd(key, option))
                {
                    throw new InvalidOperationException($"{type} declares the option '{key}' twice");
                }
            }
        }

        Options = options;
        Children = [.. type.GetCustomAttributes<ChildOptionAttribute>()];
    }

    /// <summary>The record.</summary>
    public Type Type { get; }

    /// <summary>Options in the order of declaration.</summary>
    public IReadOnlyList<OptionDeclaration> Options { get; }

    /// <summary>Declared children.</summary>
    public IReadOnlyList<ChildOptionAttribute> Children { get; }

    /// <summary>Every accepted key, aliases too.</summary>
    public IEnumerable<string> Keys => _byKey.Keys;

    /// <summary>The schema of a record.</summary>
    public static OptionSchema Of(Type type) => Cache.GetOrAdd(type, static t => new OptionSchema(t));

    /// <summary>Finds an option by key or alias.</summary>
    public bool TryFind(string key, [NotNullWhen(true)] out OptionDeclaration? option) =>
        _byKey.TryGetValue(key, out option);
}
