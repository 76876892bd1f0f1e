using System.Globalization;

namespace ImageMount.Fuzz.Tests;

/// <summary>
/// How much is tried: IMAGEMOUNT_FUZZ multiplies the number of random cases (a night: 1000), IMAGEMOUNT_SEED replays
/// another sequence. Without them every run is the same.
/// </summary>
public static class FuzzScale
{
    private static readonly int s_factor = Number("IMAGEMOUNT_FUZZ") ?? 1;

    public static int Of(int count) => checked(count * s_factor);

    public static int Seed(int seed) => Number("IMAGEMOUNT_SEED") is { } other ? seed ^ other * 7919 : seed;

    private static int? Number(string variable) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out int value)
            ? value : null;
}
