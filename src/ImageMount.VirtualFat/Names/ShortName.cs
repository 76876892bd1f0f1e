using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Names;

/// <summary>How well a name fits in 8.3.</summary>
internal enum ShortNameFit
{
    /// <summary>Entirely, its case included: no long name is needed.</summary>
    Exact,

    /// <summary>But for its case: there is a long name beside the short one.</summary>
    ButForCase,

    /// <summary>Not: the short name is made up, and ends in a number.</summary>
    Lossy,
}

/// <summary>
/// From names to 8.3 ("Short Directory Entries", "The Basis-Name Generation Algorithm"). Only ASCII is kept: what a byte
/// from 0x80 on means depends on a code page that nobody agrees on, so other characters become '_' and have their place
/// in the long name.
/// </summary>
internal static class ShortName
{
    private const string Special = "$%'-_@~`!(){}^#&";

    /// <summary>True for characters of ASCII that a short name may have; small letters count, as their capitals.</summary>
    public static bool IsAllowed(char c) => char.IsAsciiLetterOrDigit(c) || Special.Contains(c);

    /// <summary>
    /// The short name that a name has without being changed, or (<see cref="ShortNameFit.Lossy"/>) none.
    /// </summary>
    public static ShortNameFit Fit(ReadOnlySpan<char> name, out ShortName83 shortName, out NameCase nameCase)
    {
        shortName = default;
        nameCase = NameCase.None;
        int dot = name.IndexOf('.');
        ReadOnlySpan<char> first = dot < 0 ? name : name[..dot];
        ReadOnlySpan<char> extension = dot < 0 ? [] : name[(dot + 1)..];
        if (first.Length is 0 or > ShortName83.BaseSize || extension.Length > 3 || (dot >= 0 && extension.IsEmpty))
        {
            return ShortNameFit.Lossy;
        }

        if (!TryReadCase(first, out bool lowerBase, out bool mixedBase)
            || !TryReadCase(extension, out bool lowerExtension, out bool mixedExtension))
        {
            return ShortNameFit.Lossy;
        }

        Span<char> upper = stackalloc char[ShortName83.Size];
        shortName = ShortName83.FromParts(
            upper[..first.ToUpperInvariant(upper)],
            upper.Slice(ShortName83.BaseSize, extension.ToUpperInvariant(upper[ShortName83.BaseSize..])));
        if (mixedBase || mixedExtension)
        {
            return ShortNameFit.ButForCase;
        }

        nameCase = (lowerBase ? NameCase.LowerBase : 0) | (lowerExtension ? NameCase.LowerExtension : 0);
        return ShortNameFit.Exact;
    }

    /// <summary>
    /// What a made-up short name begins with: characters that are not allowed replaced, dots and spaces left out. The
    /// results have 0…8 and 0…3 characters.
    /// </summary>
    public static void MakeBasis(
        ReadOnlySpan<char> name, Span<char> first, out int firstLength, Span<char> extension, out int extensionLength)
    {
        name = name.TrimStart(" .").TrimEnd(" .");
        int dot = name.LastIndexOf('.');
        firstLength = Append(dot < 0 ? name : name[..dot], first[..ShortName83.BaseSize]);
        extensionLength = dot < 0 ? 0 : Append(name[(dot + 1)..], extension[..3]);
    }

    private static int Append(ReadOnlySpan<char> part, Span<char> target)
    {
        int length = 0;
        foreach (char c in part)
        {
            // One '_' for a character, not for each half of it.
            if (c is ' ' or '.' || char.IsLowSurrogate(c))
            {
                continue;
            }

            if (length == target.Length)
            {
                break;
            }

            target[length++] = IsAllowed(c) ? char.ToUpperInvariant(c) : '_';
        }

        return length;
    }

    private static bool TryReadCase(ReadOnlySpan<char> part, out bool isLower, out bool isMixed)
    {
        (bool lower, bool upper) = (false, false);
        (isLower, isMixed) = (false, false);
        foreach (char c in part)
        {
            if (!IsAllowed(c))
            {
                return false;
            }

            lower |= char.IsAsciiLetterLower(c);
            upper |= char.IsAsciiLetterUpper(c);
        }

        (isLower, isMixed) = (lower && !upper, lower && upper);
        return true;
    }
}
