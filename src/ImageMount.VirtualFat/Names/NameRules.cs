namespace ImageMount.VirtualFat.Names;

/// <summary>Why a name cannot be on a FAT volume.</summary>
internal enum NameProblem
{
    /// <summary>It can.</summary>
    None,

    /// <summary>No characters.</summary>
    Empty,

    /// <summary>Over 255 units of UTF-16.</summary>
    TooLong,

    /// <summary>A control character, or one of " * / : &lt; &gt; ? \ |.</summary>
    ReservedCharacter,

    /// <summary>U+FFFF, which fills up unused room in long names.</summary>
    Filler,

    /// <summary>A dot or a space at the end, which readers leave out.</summary>
    TrailingDotOrSpace,

    /// <summary>Half of a surrogate pair, or bytes that are not UTF-8.</summary>
    NotUnicode,
}

/// <summary>Which names can be on a FAT volume ("Name Limits and Character Sets").</summary>
internal static class NameRules
{
    private const string Reserved = "\"*/:<>?\\|";

    /// <summary>What is wrong with a name; checked on both ways, to the volume and back.</summary>
    public static NameProblem Check(ReadOnlySpan<char> name)
    {
        if (name.IsEmpty)
        {
            return NameProblem.Empty;
        }

        for (int i = 0; i < name.Length; i++)
        {
            NameProblem problem = CheckAt(name, i);
            if (problem != NameProblem.None)
            {
                return problem;
            }
        }

        return name[^1] is '.' or ' ' ? NameProblem.TrailingDotOrSpace
            : name.Length > LongName.MaxUnits ? NameProblem.TooLong
            : NameProblem.None;
    }

    /// <summary>What is wrong with one unit of a name.</summary>
    public static NameProblem CheckAt(ReadOnlySpan<char> name, int index)
    {
        char c = name[index];
        if (c < ' ' || Reserved.Contains(c))
        {
            return NameProblem.ReservedCharacter;
        }

        if (c == '\uffff')
        {
            return NameProblem.Filler;
        }

        bool isLone = char.IsHighSurrogate(c) ? index + 1 == name.Length || !char.IsLowSurrogate(name[index + 1])
            : char.IsLowSurrogate(c) && (index == 0 || !char.IsHighSurrogate(name[index - 1]));
        return isLone ? NameProblem.NotUnicode : NameProblem.None;
    }

    /// <summary>
    /// The nearest name that can be there: '_' for each character that cannot, and shortened, the extension kept.
    /// </summary>
    public static string Repair(ReadOnlySpan<char> name)
    {
        char[] units = name.IsEmpty ? ['_'] : name.ToArray();
        for (int i = 0; i < units.Length; i++)
        {
            if (CheckAt(units, i) != NameProblem.None)
            {
                units[i] = '_';
            }
        }

        // Shortened first: the end may be another one then.
        units = Shorten(units, LongName.MaxUnits).ToCharArray();
        for (int i = units.Length - 1; i >= 0 && units[i] is '.' or ' '; i--)
        {
            units[i] = '_';
        }

        return new string(units);
    }

    /// <summary>The same name with text before its extension: what a second one of the same name gets.</summary>
    public static string AddSuffix(ReadOnlySpan<char> name, ReadOnlySpan<char> suffix)
    {
        int dot = ExtensionAt(name);
        string head = Shorten(name[..dot], LongName.MaxUnits - suffix.Length - (name.Length - dot));
        return string.Concat(head, suffix, name[dot..]);
    }

    /// <summary>
    /// True for names that DOS and Windows take for a device, whatever their extension. FAT can hold them, and others read
    /// them.
    /// </summary>
    public static bool IsDeviceName(ReadOnlySpan<char> name)
    {
        int dot = name.IndexOf('.');
        ReadOnlySpan<char> stem = (dot < 0 ? name : name[..dot]).TrimEnd(' ');
        return stem.Length switch
        {
            3 => stem.Equals("CON", StringComparison.OrdinalIgnoreCase)
                || stem.Equals("PRN", StringComparison.OrdinalIgnoreCase)
                || stem.Equals("AUX", StringComparison.OrdinalIgnoreCase)
                || stem.Equals("NUL", StringComparison.OrdinalIgnoreCase),
            4 => stem[3] is >= '1' and <= '9'
                && (stem.StartsWith("COM", StringComparison.OrdinalIgnoreCase)
                    || stem.StartsWith("LPT", StringComparison.OrdinalIgnoreCase)),
            _ => false,
        };
    }

    /// <summary>Names are the same to FAT when they are the same after this.</summary>
    public static string Fold(string name) => name.ToUpperInvariant();

    /// <summary>A problem in words, for "the name …".</summary>
    public static string Describe(NameProblem problem) => problem switch
    {
        NameProblem.Empty => "is empty",
        NameProblem.TooLong => "is longer than 255 units of UTF-16",
        NameProblem.ReservedCharacter => "has a character that FAT does not allow (a control character or one of \"*/:<>?\\|)",
        NameProblem.Filler => "has the character U+FFFF, which FAT uses to fill up names",
        NameProblem.TrailingDotOrSpace => "ends in a dot or a space, which readers of FAT leave out",
        NameProblem.NotUnicode => "is not UTF-8",
        _ => "is good",
    };

    private static int ExtensionAt(ReadOnlySpan<char> name)
    {
        // More than a few characters after the last dot are no extension worth keeping.
        int dot = name.LastIndexOf('.');
        return dot > 0 && name.Length - dot <= 16 ? dot : name.Length;
    }

    private static string Shorten(ReadOnlySpan<char> name, int limit)
    {
        if (name.Length <= limit)
        {
            return new string(name);
        }

        int dot = ExtensionAt(name);
        int keep = limit - (name.Length - dot);

        // Not between the halves of a character.
        keep -= char.IsHighSurrogate(name[keep - 1]) ? 1 : 0;
        return string.Concat(name[..keep], name[dot..]);
    }
}
