using System.Globalization;
using System.Text.Json;
using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>A value in a JSON text that cannot be trusted, with the name that messages give it.</summary>
/// <param name="element">The value.</param>
/// <param name="name">"keyslots.0.area".</param>
internal readonly struct JsonPlace(JsonElement element, string name)
{
    public string Name { get; } = name;

    /// <summary>Requires an object.</summary>
    public JsonPlace AsObject() => element.ValueKind == JsonValueKind.Object ? this : throw Wrong("an object");

    /// <summary>A member that must be there.</summary>
    public JsonPlace Get(string member) =>
        Find(member) ?? throw BlockException.Invalid($"the metadata lacks '{Below(member)}'");

    /// <summary>A member, or null.</summary>
    public JsonPlace? Find(string member)
    {
        AsObject();
        return element.TryGetProperty(member, out JsonElement value) ? new JsonPlace(value, Below(member)) : null;
    }

    /// <summary>Members whose names are numbers.</summary>
    public List<(int Id, JsonPlace Place)> Numbered(int most)
    {
        AsObject();
        var list = new List<(int, JsonPlace)>();
        foreach (JsonProperty property in element.EnumerateObject())
        {
            string key = Read(static p => p.Name, property);
            list.Add((Index(key, most), new JsonPlace(property.Value, Below(Printable.Of(key)))));
        }

        return list;
    }

    /// <summary>Elements of an array.</summary>
    public List<JsonPlace> Items(int most)
    {
        if (element.ValueKind != JsonValueKind.Array)
        {
            throw Wrong("a list");
        }

        if (element.GetArrayLength() > most)
        {
            throw BlockException.Limit($"'{Name}' is too long", element.GetArrayLength(), most);
        }

        string item = Name + "[]";
        return [.. element.EnumerateArray().Select(value => new JsonPlace(value, item))];
    }

    public string Text() => element.ValueKind == JsonValueKind.String
        ? Read(static e => e.GetString()!, element)
        : throw Wrong("a text");

    public void MustBe(string expected)
    {
        string text = Text();
        if (text != expected)
        {
            throw BlockException.Unsupported($"'{Name}' is '{Printable.Of(text)}'; only '{expected}' is supported");
        }
    }

    /// <summary>A number in a range.</summary>
    public int Number(int min, int max) =>
        element.ValueKind == JsonValueKind.Number && element.TryGetInt32(out int value) && value >= min && value <= max
            ? value
            : throw Wrong($"a number, {min}…{max}");

    /// <summary>A number that is written as a text, because it may have 64 bits; at most 63 are accepted.</summary>
    public long LongNumber() =>
        UnsignedNumber() is var value && value <= long.MaxValue / 2 ? (long)value : throw Wrong("a smaller number");

    /// <summary>A number of up to 64 bits, written as a text.</summary>
    public ulong UnsignedNumber() =>
        ulong.TryParse(Text(), NumberStyles.None, CultureInfo.InvariantCulture, out ulong value)
            ? value
            : throw Wrong("a number as a text");

    /// <summary>A text that is a small number.</summary>
    public int Index(int count) => Index(Text(), count);

    /// <summary>Bytes in base64.</summary>
    public byte[] Binary(int most)
    {
        string text = Text();
        var bytes = new byte[most];
        return text.Length <= most * 2 && Convert.TryFromBase64String(text, bytes, out int count) && count > 0
            ? bytes[..count]
            : throw Wrong($"1 to {most} bytes in base64");
    }

    private int Index(string text, int count) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value < count
            ? value
            : throw Wrong($"a number below {count}");

    private string Below(string member) => Name == "the metadata" ? member : $"{Name}.{member}";

    private BlockException Wrong(string expected) =>
        BlockException.Invalid($"'{Name}' in the metadata is wrong", null, element.ValueKind.ToString(), expected);

    /// <summary>A text with half a surrogate pair parses, but cannot be read.</summary>
    private string Read<T>(Func<T, string> read, T from)
    {
        try
        {
            return read(from);
        }
        catch (InvalidOperationException)
        {
            throw Wrong("a text in Unicode");
        }
    }
}
