using System.Globalization;
using System.Reflection;
using System.Text;

namespace ImageMount.Core.Options;

/// <summary>
/// How values are written: sizes with suffixes, booleans in the spellings that people use, enums in kebab-case.
/// </summary>
public static class OptionValues
{
    private const string Suffixes = "kMGTPE";

    /// <summary>
    /// Reads a number of bytes: decimal, hexadecimal with 0x, or a decimal fraction; a suffix b, k, M, G, T, P, E
    /// (powers of 1024, any case, "KiB" too). False when it is no such number, is negative or does not fit.
    /// </summary>
    public static bool TryParseSize(string text, out long bytes)
    {
        bytes = 0;
        ReadOnlySpan<char> digits = text.AsSpan().Trim();
        if (digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            return long.TryParse(digits[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out bytes)
                && bytes >= 0;
        }

        if (digits.EndsWith("iB", StringComparison.OrdinalIgnoreCase) && digits.Length > 3)
        {
            digits = digits[..^2];
        }

        int shift = 0;
        if (digits.Length > 1 && char.ToLowerInvariant(digits[^1]) == 'b')
        {
            digits = digits[..^1];
        }
        else if (digits.Length > 1 && char.IsAsciiLetter(digits[^1]))
        {
            int index = Suffixes.IndexOf(digits[^1].ToString(), StringComparison.OrdinalIgnoreCase);
            if (index < 0)
            {
                return false;
            }

            shift = 10 * (index + 1);
            digits = digits[..^1];
        }

        if (!decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number))
        {
            return false;
        }

        decimal scale = 1L << shift;
        if (number > long.MaxValue / scale)
        {
            return false;
        }

        // A fraction of a byte has no meaning; "0.3k" is a slip, not 307 bytes.
        decimal exact = number * scale;
        bytes = (long)exact;
        return exact == bytes;
    }

    /// <summary>Reads a whole number, decimal or hexadecimal with 0x.</summary>
    public static bool TryParseInteger(string text, out long value)
    {
        ReadOnlySpan<char> digits = text.AsSpan().Trim();
        return digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? long.TryParse(digits[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value)
            : long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out value);
    }

    /// <summary>Reads on/off, true/false, yes/no.</summary>
    public static bool TryParseBoolean(string text, out bool value)
    {
        switch (text.ToLowerInvariant())
        {
            case "on" or "true" or "yes":
                value = true;
                return true;
            case "off" or "false" or "no":
                value = false;
                return true;
            default:
                value = false;
                return false;
        }
    }

    /// <summary>How the user writes an enum member: its <see cref="OptionValueAttribute"/>, else kebab-case.</summary>
    public static string EnumText(Type enumType, string member) =>
        enumType.GetField(member)?.GetCustomAttribute<OptionValueAttribute>()?.Text ?? ToKebabCase(member);

    /// <summary>Turns "FullDuplex" into "full-duplex"; a digit does not begin a new word.</summary>
    public static string ToKebabCase(string name)
    {
        var text = new StringBuilder(name.Length + 4);
        for (int i = 0; i < name.Length; i++)
        {
            bool startsWord = char.IsUpper(name[i]) && i > 0
                && (!char.IsUpper(name[i - 1]) || (i + 1 < name.Length && char.IsLower(name[i + 1])));
            if (startsWord)
            {
                text.Append('-');
            }

            text.Append(char.ToLowerInvariant(name[i]));
        }

        return text.ToString();
    }

    /// <summary>Writes a number of bytes with the largest suffix that divides it.</summary>
    public static string FormatSize(long bytes)
    {
        int index = -1;
        while (bytes != 0 && bytes % 1024 == 0 && index < Suffixes.Length - 1)
        {
            bytes /= 1024;
            index++;
        }

        string number = bytes.ToString(CultureInfo.InvariantCulture);
        return index < 0 ? number : number + Suffixes[index];
    }
}
