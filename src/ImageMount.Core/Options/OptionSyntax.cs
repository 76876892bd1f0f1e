using System.Text;
using System.Text.Json;
using ImageMount.Core.Block;

namespace ImageMount.Core.Options;

/// <summary>
/// The syntaxes in which options are written: <c>a=b,c.d=e</c> (a comma in a value is doubled), and JSON. Both end up
/// in the same <see cref="OptionMap"/>.
/// </summary>
public static class OptionSyntax
{
    /// <summary>Longest text that is parsed, characters. Images may contain such texts.</summary>
    public const int MaxLength = 1 << 16;

    private const int MaxJsonDepth = 32;

    /// <summary>Parses <c>a=b,c.d=e</c> into a new map.</summary>
    public static OptionMap ParsePairs(string text)
    {
        var map = new OptionMap();
        AddPairs(map, text);
        return map;
    }

    /// <summary>Parses <c>a=b,c.d=e</c> into an existing map; later values replace earlier ones.</summary>
    public static void AddPairs(OptionMap map, string text)
    {
        CheckLength(text);
        int at = 0;
        while (at < text.Length)
        {
            string pair = TakePair(text, ref at);
            int equals = pair.IndexOf('=');
            if (equals <= 0)
            {
                throw new BlockException(BlockErrorKind.InvalidArgument, "an option has no value")
                {
                    Found = $"'{pair}'",
                    Expected = "key=value; a comma inside a value is written twice",
                };
            }

            map.SetPath(pair[..equals], pair[(equals + 1)..]);
        }
    }

    /// <summary>
    /// Parses a JSON object: nested objects become groups, arrays groups with the keys 0, 1, …, null an empty text
    /// ("explicitly none"), dotted keys the same as nested ones.
    /// </summary>
    public static OptionMap ParseJson(string json)
    {
        CheckLength(json);
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = MaxJsonDepth });
        }
        catch (JsonException e)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, $"the JSON is not valid: {e.Message}", e);
        }
        catch (ArgumentException e)
        {
            throw NotUnicode(e); // half a surrogate pair in the text itself
        }

        using (document)
        {
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new BlockException(BlockErrorKind.InvalidArgument, "the JSON is not an object")
                {
                    Found = document.RootElement.ValueKind.ToString().ToLowerInvariant(),
                    Expected = "{…}",
                };
            }

            return Flatten(document.RootElement);
        }
    }

    private static OptionMap Flatten(JsonElement root)
    {
        var result = new OptionMap();
        var work = new Stack<(string Prefix, JsonElement Element)>();
        work.Push(("", root));
        while (work.TryPop(out (string Prefix, JsonElement Element) step))
        {
            if (step.Element.ValueKind == JsonValueKind.Array)
            {
                int index = 0;
                foreach (JsonElement item in step.Element.EnumerateArray())
                {
                    Add(result, work, $"{step.Prefix}{index++}", item);
                }
            }
            else
            {
                foreach (JsonProperty property in step.Element.EnumerateObject())
                {
                    Add(result, work, step.Prefix + NameOf(property), property.Value);
                }
            }
        }

        return result;
    }

    private static void Add(
        OptionMap result, Stack<(string Prefix, JsonElement Element)> work, string path, JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object or JsonValueKind.Array:
                work.Push((path + ".", value));
                break;
            case JsonValueKind.Null:
                result.SetPath(path, "");
                break;
            case JsonValueKind.True:
                result.SetPath(path, "on");
                break;
            case JsonValueKind.False:
                result.SetPath(path, "off");
                break;
            default:
                result.SetPath(path, Text(value));
                break;
        }
    }

    private static string Text(JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.Number)
        {
            return value.GetRawText();
        }

        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw NotUnicode(e);
        }
    }

    private static string NameOf(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException e)
        {
            throw NotUnicode(e);
        }
    }

    /// <summary>A string with half a surrogate pair parses, but has no text.</summary>
    private static BlockException NotUnicode(Exception e) =>
        new(BlockErrorKind.InvalidArgument, "the JSON has a string that is not Unicode", e);

    private static string TakePair(string text, ref int at)
    {
        var pair = new StringBuilder();
        while (at < text.Length)
        {
            char c = text[at++];
            if (c == ',')
            {
                if (at == text.Length || text[at] != ',')
                {
                    break;
                }

                at++;
            }

            pair.Append(c);
        }

        return pair.ToString();
    }

    private static void CheckLength(string text)
    {
        if (text.Length > MaxLength)
        {
            throw BlockException.Limit("the text with options is too long", text.Length, MaxLength);
        }
    }
}
