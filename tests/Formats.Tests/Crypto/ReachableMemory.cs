using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Tests.Crypto;

/// <summary>
/// All numbers and arrays of numbers that can be reached from an object, by the paths that lead there. What is found
/// stays in hand: it can be read again after the object has dropped it.
/// </summary>
internal sealed class ReachableMemory
{
    private readonly List<(string Path, Array Array)> _arrays = [];
    private readonly List<(string Path, object Owner, FieldInfo Field)> _numbers = [];

    /// <param name="root">Where to begin.</param>
    public ReachableMemory(object root)
    {
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        var queue = new Queue<(string Path, object Value)>();
        queue.Enqueue(("", root));
        while (queue.TryDequeue(out (string Path, object Value) next))
        {
            // A store of passphrases belongs to who gave them, the cache of decoded units to all images of the process;
            // types and handles are not data.
            if (next.Value is string or Type or SecretStore or DecodedUnitCache or MemberInfo or SafeHandle
                || next.Value.GetType().Namespace is "System.Threading" or "System.Threading.Tasks"
                || (!next.Value.GetType().IsValueType && !seen.Add(next.Value)))
            {
                continue;
            }

            if (next.Value is Array array)
            {
                Visit(next.Path, array, queue);
            }
            else
            {
                Visit(next.Path, next.Value, queue);
            }
        }
    }

    /// <summary>Secrets that were met.</summary>
    public List<(string Path, Secret Secret)> Secrets { get; } = [];

    /// <summary>The present content, by path.</summary>
    public SortedDictionary<string, string> Read()
    {
        var content = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach ((string path, Array array) in _arrays)
        {
            content[path] = Convert.ToHexStringLower(Bytes(array));
        }

        foreach ((string path, object owner, FieldInfo field) in _numbers)
        {
            content[path] = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{field.GetValue(owner)}");
        }

        return content;
    }

    /// <summary>Paths of arrays in which a part of a key is now, sixteen bytes of it or the whole.</summary>
    public List<string> Find(ReadOnlySpan<byte> key)
    {
        var found = new List<string>();
        int window = Math.Min(16, key.Length);
        foreach ((string path, Array array) in _arrays)
        {
            for (int at = 0; at + window <= key.Length; at += window)
            {
                if (Bytes(array).IndexOf(key.Slice(at, window)) >= 0)
                {
                    found.Add(path);
                    break;
                }
            }
        }

        return found;
    }

    private static Span<byte> Bytes(Array array) => MemoryMarshal.CreateSpan(
        ref MemoryMarshal.GetArrayDataReference(array),
        array.Length * RuntimeHelpers.SizeOf(array.GetType().GetElementType()!.TypeHandle));

    private void Visit(string path, Array array, Queue<(string, object)> queue)
    {
        Type element = array.GetType().GetElementType()!;
        if (IsPlain(element))
        {
            _arrays.Add((path, array));
            return;
        }

        int i = 0;
        foreach (object? item in array)
        {
            if (item is not null)
            {
                queue.Enqueue(($"{path}[{i}]", item));
            }

            i++;
        }
    }

    private void Visit(string path, object value, Queue<(string, object)> queue)
    {
        if (value is Secret secret)
        {
            Secrets.Add((path, secret));
        }

        if (value is Delegate { Target: { } target })
        {
            queue.Enqueue(($"{path}.Target", target));
            return;
        }

        for (Type? type = value.GetType(); type is not null && type != typeof(object); type = type.BaseType)
        {
            const BindingFlags All = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic
                | BindingFlags.DeclaredOnly;
            foreach (FieldInfo field in type.GetFields(All).Where(f => !f.FieldType.IsPointer && !f.FieldType.IsByRefLike))
            {
                string place = $"{path}.{field.Name}";
                if (field.FieldType.IsPrimitive && field.FieldType != typeof(nint) && field.FieldType != typeof(nuint))
                {
                    _numbers.Add((place, value, field));
                }
                else if (!field.FieldType.IsPrimitive && field.GetValue(value) is { } next)
                {
                    queue.Enqueue((place, next));
                }
            }
        }
    }

    /// <summary>Values without references, and more than one number too (vectors).</summary>
    private static bool IsPlain(Type type) => type.IsPrimitive || type.IsEnum
        || (type.IsValueType && type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic)
            .All(field => field.FieldType != type && IsPlain(field.FieldType)));

    /// <inheritdoc/>
    public override string ToString() => new StringBuilder().AppendJoin('\n', Read()).ToString();
}
