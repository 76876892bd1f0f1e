using ImageMount.Core.Block;

namespace ImageMount.Core.Options;

/// <summary>
/// What the user said about a node, whatever the syntax it was said in: scalars by key, and nested maps ("file" in
/// <c>file.driver=…</c>). Lists are maps with the keys "0", "1", … as QEMU flattens them. Keys keep their order.
/// </summary>
public sealed class OptionMap
{
    /// <summary>Most keys of one map, nested ones not counted.</summary>
    public const int MaxKeys = 1000;

    /// <summary>Most parts of a dotted path.</summary>
    public const int MaxPathParts = 64;

    private readonly List<string> _order = [];
    private readonly Dictionary<string, object> _values = new(StringComparer.Ordinal);

    /// <summary>Keys in the order they were given.</summary>
    public IReadOnlyList<string> Keys => _order;

    /// <summary>The scalar under a key, or null.</summary>
    public string? Get(string key) => _values.GetValueOrDefault(key) as string;

    /// <summary>The nested map under a key, or null.</summary>
    public OptionMap? GetMap(string key) => _values.GetValueOrDefault(key) as OptionMap;

    /// <summary>True when the key was given.</summary>
    public bool Contains(string key) => _values.ContainsKey(key);

    /// <summary>Sets a scalar; an error when the key already holds a map.</summary>
    public void Set(string key, string value) => Put(key, value);

    /// <summary>Sets a nested map.</summary>
    public void Set(string key, OptionMap map) => Put(key, map);

    /// <summary>Sets a scalar by dotted path ("file.driver"), making the maps on the way.</summary>
    public void SetPath(string path, string value)
    {
        OptionMap map = this;
        string[] parts = path.Split('.');
        if (parts.Length > MaxPathParts)
        {
            throw BlockException.Limit("an option has too many parts", parts.Length, MaxPathParts);
        }

        for (int i = 0; i < parts.Length - 1; i++)
        {
            OptionMap? next = map.GetMap(parts[i]);
            if (next is null)
            {
                next = new OptionMap();
                map.Put(parts[i], next);
            }

            map = next;
        }

        map.Put(parts[^1], value);
    }

    /// <summary>Removes a key and gives what it held (a string, a map, or null).</summary>
    public object? Remove(string key)
    {
        if (_values.Remove(key, out object? value))
        {
            _order.Remove(key);
        }

        return value;
    }

    /// <summary>What a dotted path holds: a string, a map, or null.</summary>
    public object? Find(string path)
    {
        OptionMap? map = this;
        string[] parts = path.Split('.');
        for (int i = 0; i < parts.Length - 1 && map is not null; i++)
        {
            map = map.GetMap(parts[i]);
        }

        return map?._values.GetValueOrDefault(parts[^1]);
    }

    /// <summary>Removes a dotted path; groups on the way stay.</summary>
    public void RemovePath(string path)
    {
        int dot = path.LastIndexOf('.');
        OptionMap? map = dot < 0 ? this : Find(path[..dot]) as OptionMap;
        map?.Remove(path[(dot + 1)..]);
    }

    /// <summary>
    /// Adds everything of another map to this one, group by group. Where both have a scalar, the other's wins.
    /// </summary>
    public void Merge(OptionMap other)
    {
        var work = new Stack<(OptionMap Into, OptionMap From)>();
        work.Push((this, other));
        while (work.TryPop(out (OptionMap Into, OptionMap From) step))
        {
            foreach (string key in step.From._order)
            {
                if (step.From._values[key] is not OptionMap group)
                {
                    step.Into.Put(key, step.From._values[key]);
                    continue;
                }

                OptionMap? mine = step.Into.GetMap(key);
                if (mine is null)
                {
                    mine = new OptionMap();
                    step.Into.Put(key, mine);
                }

                work.Push((mine, group));
            }
        }
    }

    /// <summary>A copy that shares nothing with this map.</summary>
    public OptionMap Clone()
    {
        var copy = new OptionMap();
        copy.Merge(this);
        return copy;
    }

    private void Put(string key, object value)
    {
        if (key.Length == 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "an option has an empty name");
        }

        if (_values.TryGetValue(key, out object? old))
        {
            if (old is string != value is string)
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument, $"option '{key}' is given both as a value and as a group");
            }

            _values[key] = value;
            return;
        }

        if (_order.Count >= MaxKeys)
        {
            throw BlockException.Limit("too many options", _order.Count + 1, MaxKeys);
        }

        _order.Add(key);
        _values.Add(key, value);
    }
}
