using System.Diagnostics.CodeAnalysis;
using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>The drivers of a program, by name and by URI scheme. Made once, in the composition root.</summary>
public sealed class DriverRegistry
{
    private readonly Dictionary<string, BlockDriver> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, BlockDriver> _byScheme = new(StringComparer.Ordinal);

    /// <summary>Makes a registry. Two drivers with one name or scheme are a mistake in the program.</summary>
    public DriverRegistry(IEnumerable<BlockDriver> drivers)
    {
        Drivers = [.. drivers];
        foreach (BlockDriver driver in Drivers)
        {
            if (!_byName.TryAdd(driver.Name, driver))
            {
                throw new InvalidOperationException($"two drivers are called '{driver.Name}'");
            }

            foreach (string scheme in driver.UriSchemes)
            {
                if (!_byScheme.TryAdd(scheme, driver))
                {
                    throw new InvalidOperationException($"two drivers claim the scheme '{scheme}:'");
                }
            }
        }
    }

    /// <summary>All drivers, in the order of the composition root.</summary>
    public IReadOnlyList<BlockDriver> Drivers { get; }

    /// <summary>URI schemes in alphabetical order.</summary>
    public IEnumerable<string> Schemes => _byScheme.Keys.Order(StringComparer.Ordinal);

    /// <summary>The driver of a name; an unknown one is an InvalidArgument that names the nearest.</summary>
    public BlockDriver Get(string name)
    {
        if (_byName.TryGetValue(name, out BlockDriver? driver))
        {
            return driver;
        }

        string? nearest = NearestName.Find(name, _byName.Keys);
        throw new BlockException(BlockErrorKind.InvalidArgument, $"there is no driver or format '{name}'")
        {
            Hint = nearest is null
                ? $"There are: {string.Join(", ", _byName.Keys.Order(StringComparer.Ordinal))}."
                : $"Did you mean '{nearest}'?",
        };
    }

    /// <summary>Finds a driver by name.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out BlockDriver? driver) =>
        _byName.TryGetValue(name, out driver);

    /// <summary>Finds the protocol driver of a URI scheme (without the colon, any case).</summary>
    public bool TryGetByScheme(string scheme, [NotNullWhen(true)] out BlockDriver? driver) =>
        _byScheme.TryGetValue(scheme.ToLowerInvariant(), out driver);

    /// <summary>
    /// The format that recognises an image, or null when none does. The highest score wins; of equal ones the first in
    /// the composition root.
    /// </summary>
    public BlockDriver? Probe(in ProbeInput input)
    {
        BlockDriver? best = null;
        int bestScore = 0;
        foreach (BlockDriver driver in Drivers)
        {
            int score = driver.Kind == DriverKind.Format ? driver.Probe(input) : 0;
            if (score > bestScore)
            {
                best = driver;
                bestScore = score;
            }
        }

        return best;
    }
}
