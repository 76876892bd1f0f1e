using ImageMount.Core.Block;

namespace ImageMount.Core.Options;

/// <summary>
/// Turns what the user said into the records that declare it. Every key must be declared, every value must fit; the
/// error names the key, what was found, what is expected, and the key that was probably meant.
/// </summary>
public static class OptionBinder
{
    /// <summary>Binds one record; children are not accepted.</summary>
    /// <param name="map">What the user said.</param>
    /// <param name="subject">Who has the options, for messages: "driver 'qcow2'".</param>
    public static T Bind<T>(OptionMap map, string subject)
        where T : class, new() => (T)Bind(map, subject, "", [typeof(T)], [])[0];

    /// <summary>Binds a map whose keys belong to any of several records.</summary>
    /// <param name="map">What the user said.</param>
    /// <param name="subject">Who has the options, for messages.</param>
    /// <param name="prefix">What stands before the keys in messages: "" or "file.".</param>
    /// <param name="types">The records; the result has an instance of each, in this order.</param>
    /// <param name="children">Keys that hold children and are left to the graph.</param>
    public static object[] Bind(
        OptionMap map, string subject, string prefix, IReadOnlyList<Type> types, IReadOnlyCollection<string> children)
    {
        var results = new object[types.Count];
        for (int i = 0; i < types.Count; i++)
        {
            results[i] = Activator.CreateInstance(types[i])!;
        }

        var given = new Dictionary<OptionDeclaration, string>();
        foreach ((string key, object value) in Flatten(map, types, children))
        {
            (OptionDeclaration option, object target) = Find(key, subject, prefix, types, results, children);
            if (given.TryGetValue(option, out string? earlier))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument,
                    $"option '{prefix}{option.Name}' is given twice, as '{prefix}{earlier}' and as '{prefix}{key}'");
            }

            if (value is OptionMap group)
            {
                option.Apply(target, group);
            }
            else
            {
                option.Apply(target, (string)value, prefix + key);
            }

            given.Add(option, key);
        }

        foreach (Type type in types)
        {
            foreach (OptionDeclaration option in OptionSchema.Of(type).Options)
            {
                if (option.Required && !given.ContainsKey(option))
                {
                    throw new BlockException(
                        BlockErrorKind.InvalidArgument, $"{subject} needs the option '{prefix}{option.Name}'")
                    {
                        Hint = $"'{prefix}{option.Name}': {option.Help}",
                    };
                }
            }
        }

        return results;
    }

    /// <summary>
    /// Scalars by dotted path, in the order they were given; groups that hold children are left out, and those that are
    /// options themselves stay whole.
    /// </summary>
    private static List<(string Key, object Value)> Flatten(
        OptionMap map, IReadOnlyList<Type> types, IReadOnlyCollection<string> children)
    {
        var result = new List<(string, object)>();
        var work = new Stack<(string Path, OptionMap Map)>();
        work.Push(("", map));
        while (work.TryPop(out (string Path, OptionMap Map) step))
        {
            foreach (string key in step.Map.Keys)
            {
                string path = step.Path + key;
                if (step.Path.Length == 0 && children.Contains(key))
                {
                    continue;
                }

                if (step.Map.GetMap(key) is { } group)
                {
                    if (types.Any(type => OptionSchema.Of(type).TryFind(path, out OptionDeclaration? option)
                        && option.Kind == OptionKind.Group))
                    {
                        result.Add((path, group));
                        continue;
                    }

                    work.Push((path + ".", group));
                }
                else
                {
                    result.Add((path, step.Map.Get(key)!));
                }
            }
        }

        return result;
    }

    private static (OptionDeclaration Option, object Target) Find(
        string key, string subject, string prefix, IReadOnlyList<Type> types, object[] results,
        IReadOnlyCollection<string> children)
    {
        for (int i = 0; i < types.Count; i++)
        {
            if (OptionSchema.Of(types[i]).TryFind(key, out OptionDeclaration? option))
            {
                return (option, results[i]);
            }
        }

        string[] known = [.. types.SelectMany(type => OptionSchema.Of(type).Keys), .. children];
        string? nearest = NearestName.Find(key, known);
        throw new BlockException(BlockErrorKind.InvalidArgument, $"{subject} has no option '{prefix}{key}'")
        {
            Hint = nearest is not null ? $"Did you mean '{prefix}{nearest}'?"
                : known.Length == 0 ? "It has no options at all."
                : $"Its options are: {string.Join(", ", known.Order(StringComparer.Ordinal))}.",
        };
    }
}
