using System.Globalization;
using System.Reflection;
using CommandLine;
using ImageMount.Cli.Commands;
using ImageMount.Core.Options;

namespace ImageMount.Cli;

/// <summary>
/// From words to arguments. The library parses; verbs are told apart here, and its errors are put into our words, with
/// the nearest name where one was mistyped.
/// </summary>
public static class CommandLineReader
{
    /// <summary>Verbs and what their arguments are; the first is the default.</summary>
    public static IReadOnlyList<(string Verb, Type Arguments)> Verbs { get; } =
    [
        ("mount", typeof(MountArguments)),
        ("umount", typeof(UmountArguments)),
        ("list", typeof(ListArguments)),
        ("info", typeof(InfoArguments)),
        ("map", typeof(MapArguments)),
        ("check", typeof(CheckArguments)),
        ("create", typeof(CreateArguments)),
        ("convert", typeof(ConvertArguments)),
        ("amend", typeof(AmendArguments)),
        ("doctor", typeof(DoctorArguments)),
        ("commit", typeof(CommitArguments)),
    ];

    /// <summary>The verb that the words begin with (else the default), and the words after it.</summary>
    public static (string Verb, string[] Words) SplitVerb(string[] words)
    {
        string first = words.Length == 0 ? "" : words[0] == "unmount" ? "umount" : words[0];
        return Verbs.Any(v => v.Verb == first) ? (first, words[1..]) : (Verbs[0].Verb, words);
    }

    /// <summary>Parses the words after the verb.</summary>
    /// <exception cref="UsageException">They do not fit.</exception>
    public static T Parse<T>(string[] words)
        where T : new()
    {
        using var parser = new Parser(settings =>
        {
            settings.HelpWriter = null;
            settings.AutoHelp = false;
            settings.AutoVersion = false;
            settings.EnableDashDash = true;
            settings.AllowMultiInstance = true;
            settings.ParsingCulture = CultureInfo.InvariantCulture;
        });
        RequireValues(typeof(T), words);
        ParserResult<T> result = parser.ParseArguments<T>(() => new T(), Terminate(typeof(T), words));
        return result is Parsed<T> parsed
            ? WithoutEmptyParts(parsed.Value)
            : throw Explain(typeof(T), ((NotParsed<T>)result).Errors.First());
    }

    /// <summary>Every option of an arguments class, in the order declared, base class last.</summary>
    public static IEnumerable<CommandLine.OptionAttribute> OptionsOf(Type arguments) =>
        from property in arguments.GetProperties(BindingFlags.Public | BindingFlags.Instance)
        let option = property.GetCustomAttribute<CommandLine.OptionAttribute>()
        where option is not null && !option.Hidden
        select option;

    /// <summary>
    /// The library lets an option with several values take every word after it, unless its separator is in the first:
    /// so it is put there, at the end.
    /// </summary>
    private static string[] Terminate(Type arguments, string[] words)
    {
        var result = (string[])words.Clone();
        CommandLine.OptionAttribute[] lists = [.. OptionsOf(arguments).Where(option => option.Separator != '\0')];
        for (int i = 0; i < result.Length && result[i] != "--"; i++)
        {
            foreach (CommandLine.OptionAttribute list in lists)
            {
                bool isShort = list.ShortName.Length > 0 && result[i] == $"-{list.ShortName}";
                if ((isShort || (list.LongName.Length > 0 && result[i] == $"--{list.LongName}")) && i + 1 < result.Length)
                {
                    result[++i] += list.Separator;
                    break;
                }

                if (list.LongName.Length > 0 && result[i].StartsWith($"--{list.LongName}=", StringComparison.Ordinal))
                {
                    result[i] += list.Separator;
                    break;
                }
            }
        }

        return result;
    }

    private static T WithoutEmptyParts<T>(T arguments)
    {
        foreach (PropertyInfo property in typeof(T).GetProperties(BindingFlags.Public | BindingFlags.Instance))
        {
            if (property.GetCustomAttribute<CommandLine.OptionAttribute>() is { Separator: not '\0' }
                && property.GetValue(arguments) is IEnumerable<string> values)
            {
                property.SetValue(arguments, values.Where(value => value.Length > 0).ToArray());
            }
        }

        return arguments;
    }

    /// <summary>
    /// The library takes an option whose value is missing at the end of the line for one that is not given.
    /// </summary>
    private static void RequireValues(Type arguments, string[] words)
    {
        if (words.Length == 0 || words.Contains("--"))
        {
            return;
        }

        string last = words[^1];
        bool needsValue = arguments.GetProperties(BindingFlags.Public | BindingFlags.Instance)
            .Where(property => property.PropertyType != typeof(bool))
            .Select(property => property.GetCustomAttribute<CommandLine.OptionAttribute>())
            .Any(option => option is not null
                && (last == "--" + option.LongName || (option.ShortName.Length > 0 && last == "-" + option.ShortName)));
        if (needsValue)
        {
            throw new UsageException($"option {last} needs a value");
        }
    }

    private static UsageException Explain(Type arguments, Error error) => error switch
    {
        UnknownOptionError unknown => Unknown(arguments, unknown.Token),
        MissingValueOptionError missing => new($"option {Show(missing.NameInfo)} needs a value"),
        BadFormatConversionError bad => new($"the value of {Show(bad.NameInfo)} is not a number that fits"),
        RepeatedOptionError repeated => new($"option {Show(repeated.NameInfo)} is given twice"),
        SequenceOutOfRangeError range => new($"option {Show(range.NameInfo)} needs a value"),
        BadFormatTokenError token => new($"'{token.Token}' is not an option as it should be written"),
        NamedError named => new($"option {Show(named.NameInfo)} cannot be understood ({error.Tag})"),
        _ => new($"the command line cannot be understood ({error.Tag})"),
    };

    private static UsageException Unknown(Type arguments, string token)
    {
        string dashes = token.Length == 1 ? "-" : "--";
        string? nearest = NearestName.Find(
            token, OptionsOf(arguments).Select(o => o.LongName).Where(n => n.Length > 0));
        return new(
            $"there is no option '{dashes}{token}'",
            nearest is null || token.Length == 1 ? null : $"Did you mean '--{nearest}'?");
    }

    private static string Show(NameInfo name) =>
        name.LongName.Length > 0 ? $"--{name.LongName}" : $"-{name.ShortName}";
}
