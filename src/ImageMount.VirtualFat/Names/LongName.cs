using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Names;

/// <summary>
/// Long names: up to 255 units of UTF-16 in up to 20 entries ("FAT Long Directory Entries", "Name Limits and Character
/// Sets"). Lone surrogates are units like any other here; whether a name is good is <see cref="NameRules"/>'s business.
/// </summary>
internal static class LongName
{
    /// <summary>Most units.</summary>
    public const int MaxUnits = 255;

    /// <summary>Most entries.</summary>
    public const int MaxEntries = (MaxUnits + LongNameEntry.UnitCount - 1) / LongNameEntry.UnitCount;

    private const ushort Padding = 0xffff;

    /// <summary>Entries that a name of so many units takes, the one with the short name not counted.</summary>
    public static int EntriesFor(int units) => (units + LongNameEntry.UnitCount - 1) / LongNameEntry.UnitCount;

    /// <summary>
    /// One entry of a name. Part 1 is the beginning of the name and stands right before the short name.
    /// </summary>
    /// <param name="name">1…255 units.</param>
    /// <param name="part">1…<see cref="EntriesFor"/>.</param>
    /// <param name="checksum">Of the short name.</param>
    public static LongNameEntry MakePart(ReadOnlySpan<char> name, int part, byte checksum)
    {
        bool isLast = part == EntriesFor(name.Length);
        var entry = new LongNameEntry
        {
            Order = (byte)(part | (isLast ? LongNameEntry.LastMark : 0)),
            Attributes = FatAttributes.LongName,
            Checksum = checksum,
        };
        int from = (part - 1) * LongNameEntry.UnitCount;
        for (int i = 0; i < LongNameEntry.UnitCount; i++)
        {
            // A name that does not fill its last part ends in a NUL, and nothing follows that.
            int at = from + i;
            entry[i] = at < name.Length ? name[at] : at == name.Length ? (ushort)0 : Padding;
        }

        return entry;
    }

    /// <summary>All entries of a name in the order in which they stand on the disk.</summary>
    /// <param name="name">1…255 units.</param>
    /// <param name="checksum">Of the short name.</param>
    /// <param name="entries">As many as <see cref="EntriesFor"/> says.</param>
    public static void Pack(ReadOnlySpan<char> name, byte checksum, Span<LongNameEntry> entries)
    {
        for (int i = 0; i < entries.Length; i++)
        {
            entries[i] = MakePart(name, entries.Length - i, checksum);
        }
    }

    /// <summary>
    /// Puts a name together from all entries that stand before a short name, in the order of the disk. False when they
    /// are not one whole name that belongs to it: then there is only the short one.
    /// </summary>
    public static bool TryUnpack(ReadOnlySpan<LongNameEntry> entries, byte checksum, out string name)
    {
        name = "";
        if (entries.Length is 0 or > MaxEntries)
        {
            return false;
        }

        Span<char> units = stackalloc char[MaxEntries * LongNameEntry.UnitCount];
        int length = -1;
        for (int i = 0; i < entries.Length; i++)
        {
            LongNameEntry entry = entries[i];
            int part = entries.Length - i;
            int order = part | (i == 0 ? LongNameEntry.LastMark : 0);
            if (entry.Order != order || entry.Checksum != checksum || !entry.IsPart)
            {
                return false;
            }

            for (int k = 0; k < LongNameEntry.UnitCount; k++)
            {
                int at = (part - 1) * LongNameEntry.UnitCount + k;
                units[at] = (char)entry[k];
                if (units[at] != 0)
                {
                    continue;
                }

                if (i > 0)
                {
                    // A NUL that is not in the last part.
                    return false;
                }

                length = length < 0 ? at : length;
            }
        }

        length = length < 0 ? entries.Length * LongNameEntry.UnitCount : length;
        if (length is 0 or > MaxUnits)
        {
            return false;
        }

        name = new string(units[..length]);
        return true;
    }
}
