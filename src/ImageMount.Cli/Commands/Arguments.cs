using System.Globalization;
using ImageMount.Cli.Background;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;

namespace ImageMount.Cli.Commands;

/// <summary>Turns words into values, with usage errors that say what is accepted.</summary>
internal static class Arguments
{
    /// <summary>The image that the arguments name.</summary>
    public static ImageRequest Image(ImageArguments arguments, string verb) => new()
    {
        Source = Required(arguments.Source, "SOURCE", verb),
        IsOptions = arguments.ImageOpts,
        Format = arguments.Format,
        ForceShare = arguments.ForceShare,
        Locking = Choice(arguments.Locking, "locking", LockingMode.Auto),
        AllowExternal = arguments.AllowExternal,
        Spool = arguments.Spool,
        RemoteCache = RemoteCacheArgument.Parse(arguments.RemoteCache),
        Offset = arguments.Offset,
        Size = arguments.Size,
        FatUnsupported = arguments.FatUnsupported,
    };

    /// <summary>A word that must be there.</summary>
    public static string Required(string? word, string name, string verb) =>
        !string.IsNullOrEmpty(word)
            ? word
            : throw new UsageException($"{name} is missing", $"See 'imgmount {verb} --help'.");

    /// <summary>Nothing may be left over.</summary>
    public static void NoMore(IEnumerable<string> rest, string verb)
    {
        if (rest.FirstOrDefault() is { } word)
        {
            throw new UsageException($"'{word}' is one argument too many", $"See 'imgmount {verb} --help'.");
        }
    }

    /// <summary>One of the names of an enum, in lower case; null means the default.</summary>
    public static T Choice<T>(string? word, string option, T otherwise)
        where T : struct, Enum
    {
        if (word is null)
        {
            return otherwise;
        }

        string[] names = [.. Enum.GetNames<T>().Select(n => n.ToLowerInvariant())];
        int index = Array.IndexOf(names, word);
        if (index >= 0)
        {
            return Enum.GetValues<T>()[index];
        }

        string? nearest = NearestName.Find(word, names);
        throw new UsageException(
            $"--{option} does not know '{word}'",
            nearest is null ? $"It takes: {string.Join(", ", names)}." : $"Did you mean '{nearest}'?");
    }

    /// <summary>Permission bits in octal.</summary>
    public static uint? Mode(string? word)
    {
        if (word is null)
        {
            return null;
        }

        const uint AllBits = 0x1FF; // 0777
        uint mode = 0;
        foreach (char c in word)
        {
            mode = c is >= '0' and <= '7' && mode <= AllBits ? mode * 8 + (uint)(c - '0') : uint.MaxValue;
        }

        return word.Length > 0 && mode <= AllBits
            ? mode
            : throw new UsageException($"--mode does not understand '{word}'", "It takes an octal number such as 640.");
    }

    /// <summary>A number of bytes with an optional suffix k, M, G, T (powers of 1024).</summary>
    public static long? Bytes(string? word, string option)
    {
        if (word is null)
        {
            return null;
        }

        int shift = word.Length == 0 ? 0 : char.ToLowerInvariant(word[^1]) switch
        {
            'k' => 10,
            'm' => 20,
            'g' => 30,
            't' => 40,
            _ => 0,
        };
        ReadOnlySpan<char> digits = shift == 0 ? word : word.AsSpan(0, word.Length - 1);
        return long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long number)
            && number <= long.MaxValue >> shift
                ? number << shift
                : throw new UsageException(
                    $"--{option} does not understand '{word}'", "It takes a number of bytes, such as 512, 64k or 10G.");
    }

    /// <summary>True for JSON, from --json or --output=json.</summary>
    public static bool WantsJson(bool json, string? output) => output switch
    {
        null or "human" => json,
        "json" => true,
        _ => throw new UsageException($"--output does not know '{output}'", "It takes: human, json."),
    };
}
