using System.Globalization;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Names;

/// <summary>
/// The short names of one folder. Names that fit are taken first (<see cref="TryTake"/>), then the others get theirs
/// (<see cref="MakeUp"/>): NAME~1, NAME~2, … For each beginning and number of digits it is remembered how far it got, so
/// that tens of thousands of names with the same beginning cost no more than others.
/// </summary>
internal sealed class ShortNameTable
{
    private const int MaxDigits = 6;
    private readonly HashSet<ShortName83> _used = [];
    private readonly Dictionary<(ShortName83 Prefix, int Digits), int> _next = [];

    /// <summary>Takes a name; false when it is taken already.</summary>
    public bool TryTake(ShortName83 name) => _used.Add(name);

    /// <summary>True when the name is taken.</summary>
    public bool IsTaken(ShortName83 name) => _used.Contains(name);

    /// <summary>Gives a name back, when what had it is not there after all.</summary>
    public void Release(ShortName83 name) => _used.Remove(name);

    /// <summary>Makes a name up and takes it ("The Numeric-Tail Generation Algorithm").</summary>
    public ShortName83 MakeUp(ReadOnlySpan<char> longName)
    {
        Span<char> first = stackalloc char[ShortName83.BaseSize];
        Span<char> extension = stackalloc char[3];
        ShortName.MakeBasis(longName, first, out int firstLength, extension, out int extensionLength);
        extension = extension[..extensionLength];
        int smallest = 1;
        for (int digits = 1; digits <= MaxDigits; digits++, smallest *= 10)
        {
            int kept = Math.Min(firstLength, ShortName83.BaseSize - 1 - digits);
            var key = (ShortName83.FromParts(first[..kept], extension), digits);
            int number = _next.GetValueOrDefault(key, smallest);
            first[kept] = '~';
            while (number < smallest * 10)
            {
                // Formatting cannot fail: there is room for so many digits behind the tilde.
                number.TryFormat(first[(kept + 1)..], out int written, default, CultureInfo.InvariantCulture);
                number++;
                ShortName83 name = ShortName83.FromParts(first[..(kept + 1 + written)], extension);
                if (_used.Add(name))
                {
                    _next[key] = number;
                    return name;
                }
            }

            _next[key] = number;
            RestoreBasis(longName, first);
        }

        // A folder has at most 65536 entries, and there are a million numbers.
        throw new InvalidOperationException("a folder has more entries than a folder can have");
    }

    private static void RestoreBasis(ReadOnlySpan<char> longName, Span<char> first)
    {
        Span<char> extension = stackalloc char[3];
        ShortName.MakeBasis(longName, first, out _, extension, out _);
    }
}
