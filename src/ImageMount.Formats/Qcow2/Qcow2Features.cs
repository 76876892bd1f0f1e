using System.Globalization;
using System.Numerics;

namespace ImageMount.Formats.Qcow2;

/// <summary>Incompatible features ("Header").</summary>
[Flags]
public enum Qcow2Incompatible : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Refcounts may be wrong; rebuild before writing.</summary>
    Dirty = 1,

    /// <summary>Structures may be damaged; not to be written.</summary>
    Corrupt = 2,

    /// <summary>Guest data lies in another file.</summary>
    DataFile = 4,

    /// <summary>Compressed clusters use another method than zlib.</summary>
    CompressionType = 8,

    /// <summary>L2 entries have 128 bits, with subclusters.</summary>
    ExtendedL2 = 16,

    /// <summary>Everything that this program knows.</summary>
    Known = Dirty | Corrupt | DataFile | CompressionType | ExtendedL2,
}

/// <summary>Compatible features ("Header").</summary>
[Flags]
public enum Qcow2Compatible : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Refcounts may be written late, under the dirty bit.</summary>
    LazyRefcounts = 1,
}

/// <summary>Auto-clear features ("Header").</summary>
[Flags]
public enum Qcow2Autoclear : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>The bitmaps extension is consistent.</summary>
    Bitmaps = 1,

    /// <summary>The external data file is a raw image by itself.</summary>
    RawDataFile = 2,

    /// <summary>Everything that this program keeps true while it writes.</summary>
    Known = Bitmaps | RawDataFile,
}

/// <summary>One line of the feature name table ("Feature name table").</summary>
/// <param name="Type">0 incompatible, 1 compatible, 2 autoclear.</param>
/// <param name="Bit">0…63.</param>
/// <param name="Name">Name for people.</param>
public readonly record struct Qcow2FeatureName(byte Type, byte Bit, string Name);

/// <summary>Puts names to feature bits.</summary>
internal static class Qcow2FeatureNames
{
    /// <summary>Type of incompatible features in the table.</summary>
    public const byte Incompatible = 0;

    /// <summary>Type of compatible features in the table.</summary>
    public const byte Compatible = 1;

    /// <summary>Type of auto-clear features in the table.</summary>
    public const byte Autoclear = 2;

    /// <summary>The names of what this program knows, for the images that it creates.</summary>
    public static readonly Qcow2FeatureName[] Known =
    [
        new(Incompatible, 0, "dirty bit"),
        new(Incompatible, 1, "corrupt bit"),
        new(Incompatible, 2, "external data file"),
        new(Incompatible, 3, "compression type"),
        new(Incompatible, 4, "extended L2 entries"),
        new(Compatible, 0, "lazy refcounts"),
        new(Autoclear, 0, "bitmaps"),
        new(Autoclear, 1, "raw external data"),
    ];

    /// <summary>Lists the bits by the names that the image itself gives, or by number.</summary>
    public static string Describe(byte type, ulong bits, IReadOnlyList<Qcow2FeatureName> names)
    {
        var parts = new List<string>();
        for (; bits != 0; bits &= bits - 1)
        {
            int bit = BitOperations.TrailingZeroCount(bits);
            string? name = null;
            foreach (Qcow2FeatureName entry in names)
            {
                if (entry.Type == type && entry.Bit == bit)
                {
                    name = entry.Name;
                }
            }

            parts.Add(string.IsNullOrEmpty(name)
                ? string.Create(CultureInfo.InvariantCulture, $"bit {bit}")
                : string.Create(CultureInfo.InvariantCulture, $"'{name}' (bit {bit})"));
        }

        return string.Join(", ", parts);
    }
}
