using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>
/// Turns what the user calls an image into options: a path, a URI, <c>json:{…}</c>, or <c>driver=…,file.driver=…</c>.
/// The result describes an image node: without "driver" its format is probed.
/// </summary>
/// <param name="registry">Knows the URI schemes.</param>
public sealed class SourceParser(DriverRegistry registry)
{
    /// <summary>What begins a JSON source.</summary>
    public const string JsonPrefix = "json:";

    /// <summary>What may begin a path, as QEMU allows it.</summary>
    public const string FilePrefix = "file:";

    /// <summary>Parses a source. A name with a colon that exists as a file is a path.</summary>
    public OptionMap Parse(string source)
    {
        if (source.StartsWith(JsonPrefix, StringComparison.Ordinal))
        {
            return OptionSyntax.ParseJson(source[JsonPrefix.Length..]);
        }

        var image = new OptionMap();
        image.Set("file", ParseProtocol(source));
        return image;
    }

    /// <summary>Parses a path or URI into the options of a protocol node.</summary>
    public OptionMap ParseProtocol(string source)
    {
        if (source.Length == 0 || source == FilePrefix)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the name of the image is empty");
        }

        if (source.Contains('\0'))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the name of the image has a NUL in it");
        }

        string? scheme = SchemeOf(source);
        if (scheme is null || scheme == "file" || System.IO.File.Exists(source))
        {
            return FileOptions(scheme == "file" ? StripFilePrefix(source) : source);
        }

        if (!registry.TryGetByScheme(scheme, out BlockDriver? driver))
        {
            string? nearest = NearestName.Find(scheme, registry.Schemes);
            throw new BlockException(BlockErrorKind.InvalidArgument, $"there is no protocol '{scheme}:'")
            {
                Hint = (nearest is null ? "" : $"Did you mean '{nearest}:'? ")
                    + $"If it is the name of a file, write './{source}'.",
            };
        }

        OptionMap options = driver.ParseUri(source);
        options.Set("driver", driver.Name);
        return options;
    }

    /// <summary>
    /// Parses what a file to be made is called: as <see cref="ParseProtocol"/>, or options of its protocol as JSON.
    /// </summary>
    public OptionMap ParseFile(string target)
    {
        if (!target.StartsWith(JsonPrefix, StringComparison.Ordinal))
        {
            return ParseProtocol(target);
        }

        OptionMap options = OptionSyntax.ParseJson(target[JsonPrefix.Length..]);
        return options.Find("driver") is string driver && registry.Get(driver).Kind == DriverKind.Protocol
            ? options
            : throw new BlockException(BlockErrorKind.InvalidArgument, "a file to be made is named without its format")
            {
                Expected = "json:{\"driver\":\"ssh\",…}: the driver of a protocol, and its options",
            };
    }

    /// <summary>Parses the argument of <c>--image-opts</c>.</summary>
    public OptionMap ParseImageOptions(string text)
    {
        OptionMap map = OptionSyntax.ParsePairs(text);
        if (map.Keys.Count == 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the image options are empty")
            {
                Expected = "driver=…,file.filename=…",
            };
        }

        return map;
    }

    /// <summary>Puts a filter over an image description.</summary>
    public static OptionMap Wrap(OptionMap image, string filter)
    {
        var map = new OptionMap();
        map.Set("driver", filter);
        map.Set("file", image);
        return map;
    }

    /// <summary>
    /// The scheme of a URI or of an older "scheme:…" form, in lower case, or null for a path: a scheme is at least two
    /// characters before the first colon, with no slash among them.
    /// </summary>
    public static string? SchemeOf(string source)
    {
        int colon = source.IndexOf(':');
        if (colon < 2 || !char.IsAsciiLetter(source[0]))
        {
            return null;
        }

        foreach (char c in source.AsSpan(0, colon))
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('+' or '-' or '.'))
            {
                return null;
            }
        }

        return source[..colon].ToLowerInvariant();
    }

    internal static OptionMap FileOptions(string path)
    {
        var options = new OptionMap();
        options.Set("driver", "file");
        options.Set("filename", path);
        return options;
    }

    /// <summary>
    /// "file:///a/b" and "file:a/b" as paths. QEMU does not decode percent signs here, so neither do we.
    /// </summary>
    internal static string StripFilePrefix(string source)
    {
        string path = source[FilePrefix.Length..];
        return path.StartsWith("///", StringComparison.Ordinal) ? path[2..] : path;
    }
}
