using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Vhdx;

/// <summary>How a differencing disk finds and recognises its parent (2.6.2.6): keys and values.</summary>
internal sealed class VhdxParentLocator
{
    /// <summary>Key: the parent's data write GUID.</summary>
    public const string Linkage = "parent_linkage";

    /// <summary>Key: another GUID that the parent may have, while a merge is under way.</summary>
    public const string Linkage2 = "parent_linkage2";

    /// <summary>Key: path relative to the child.</summary>
    public const string RelativePath = "relative_path";

    /// <summary>Key: path on a Windows volume known by its GUID.</summary>
    public const string VolumePath = "volume_path";

    /// <summary>Key: Windows path with drive or server.</summary>
    public const string AbsolutePath = "absolute_win32_path";

    private const int HeaderSize = 20;
    private const int MaxEntries = 256;

    private VhdxParentLocator(Dictionary<string, string> values, List<Guid> linkages)
    {
        Values = values;
        Linkages = linkages;
    }

    /// <summary>All keys and values.</summary>
    public IReadOnlyDictionary<string, string> Values { get; }

    /// <summary>Data write GUIDs that the parent may have.</summary>
    public IReadOnlyList<Guid> Linkages { get; }

    /// <summary>Parent as the image names it, for people.</summary>
    public string Name =>
        Values.GetValueOrDefault(RelativePath) ?? Values.GetValueOrDefault(AbsolutePath)
        ?? Values.GetValueOrDefault(VolumePath) ?? "";

    /// <summary>
    /// Where the parent may be, as paths relative to the child, in the order to try. Paths of Windows volumes and
    /// drives mean nothing here; a file of that name beside the child may be it, and its GUID tells.
    /// </summary>
    public IReadOnlyList<string> Candidates()
    {
        var candidates = new List<string>();
        void Add(string path)
        {
            if (path.Length > 0 && !candidates.Contains(path))
            {
                candidates.Add(path);
            }
        }

        if (Values.TryGetValue(RelativePath, out string? relative))
        {
            string path = relative.Replace('\\', '/');
            while (path.StartsWith("./", StringComparison.Ordinal))
            {
                path = path[2..].TrimStart('/');
            }

            Add(path);
        }

        foreach (string key in (string[])[VolumePath, AbsolutePath])
        {
            if (Values.TryGetValue(key, out string? absolute))
            {
                string[] parts = absolute.Replace('\\', '/').Split('/');
                Add(parts[^1] is "." or ".." ? "" : parts[^1]);
            }
        }

        return candidates;
    }

    /// <summary>Reads the item.</summary>
    /// <param name="item">Its bytes.</param>
    /// <param name="at">Where it is in the file, for messages.</param>
    public static VhdxParentLocator Parse(ReadOnlySpan<byte> item, long at)
    {
        var reader = new SpanReader(item);
        if (!reader.TryRead(out VhdxGuid type) || !reader.TryRead(out Le16 _) || !reader.TryRead(out Le16 count))
        {
            throw BlockException.Invalid("the parent locator is too short", at);
        }

        if (type.Value != VhdxLayout.VhdxLocator)
        {
            throw BlockException.Unsupported($"the parent is of a kind that is not known: {type.Value:B}");
        }

        if (count > MaxEntries)
        {
            throw BlockException.Limit("the parent locator has too many entries", count, MaxEntries, at + 18);
        }

        var values = new Dictionary<string, string>(StringComparer.Ordinal);
        for (int i = 0; i < count; i++)
        {
            if (!reader.TryRead(out VhdxRawLocatorEntry entry))
            {
                throw BlockException.Invalid("the parent locator is too short", at);
            }

            string key = Text(item, entry.KeyOffset, entry.KeyLength, at);
            if (!values.TryAdd(key, Text(item, entry.ValueOffset, entry.ValueLength, at)))
            {
                throw BlockException.Invalid("a key of the parent locator is there twice", at);
            }
        }

        return new VhdxParentLocator(values, FindLinkages(values, at));
    }

    /// <summary>Stores a locator.</summary>
    public static byte[] Store(IReadOnlyList<KeyValuePair<string, string>> values)
    {
        int tableEnd = HeaderSize + (values.Count * Marshal.SizeOf<VhdxRawLocatorEntry>());
        int size = tableEnd + values.Sum(pair => 2 * (pair.Key.Length + pair.Value.Length));
        var bytes = new byte[size];
        MemoryMarshal.Write(bytes, new VhdxGuid(VhdxLayout.VhdxLocator));
        MemoryMarshal.Write(bytes.AsSpan(18), new Le16((ushort)values.Count));
        int at = tableEnd;
        int entryAt = HeaderSize;
        foreach ((string key, string value) in values)
        {
            var entry = new VhdxRawLocatorEntry { KeyOffset = (uint)at, KeyLength = (ushort)(2 * key.Length) };
            at += Encoding.Unicode.GetBytes(key, bytes.AsSpan(at));
            entry.ValueOffset = (uint)at;
            entry.ValueLength = (ushort)(2 * value.Length);
            at += Encoding.Unicode.GetBytes(value, bytes.AsSpan(at));
            MemoryMarshal.Write(bytes.AsSpan(entryAt), entry);
            entryAt += Marshal.SizeOf<VhdxRawLocatorEntry>();
        }

        return bytes;
    }

    private static List<Guid> FindLinkages(Dictionary<string, string> values, long at)
    {
        var linkages = new List<Guid>();
        foreach (string key in (string[])[Linkage, Linkage2])
        {
            if (!values.TryGetValue(key, out string? text))
            {
                continue;
            }

            if (!Guid.TryParseExact(text, "B", out Guid guid))
            {
                throw BlockException.Invalid(
                    $"the parent locator's {key} is no GUID", at,
                    $"{text.Length.ToString(CultureInfo.InvariantCulture)} characters");
            }

            linkages.Add(guid);
        }

        return linkages.Count > 0 ? linkages
            : throw BlockException.Invalid("the parent locator does not say which parent it means", at, null, Linkage);
    }

    private static string Text(ReadOnlySpan<byte> item, uint offset, int length, long at)
    {
        if (offset > (uint)item.Length || length > item.Length - (int)offset || length == 0 || length % 2 != 0)
        {
            throw BlockException.Invalid(
                "a text of the parent locator has an impossible place", at, $"0x{offset:x}+0x{length:x}",
                $"inside 0x{item.Length:x} bytes");
        }

        string text = Encoding.Unicode.GetString(item.Slice((int)offset, length)).TrimEnd('\0');
        return text.Contains('\0')
            ? throw BlockException.Invalid("a text of the parent locator contains NUL characters", at + offset) : text;
    }
}
