using System.Globalization;

namespace ImageMount.Cli.Output;

/// <summary>Sizes for people, in powers of 1024.</summary>
public static class Sizes
{
    private static readonly string[] Units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    /// <summary>"1.5 GiB": at most three significant digits.</summary>
    public static string Human(long bytes)
    {
        double value = bytes;
        int unit = 0;
        while (value >= 999.5 && unit < Units.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        string format = unit == 0 || value >= 100 ? "0" : value >= 10 ? "0.#" : "0.##";
        return value.ToString(format, CultureInfo.InvariantCulture) + " " + Units[unit];
    }

    /// <summary>"16 MiB (16777216 bytes)".</summary>
    public static string Both(long bytes) =>
        string.Create(CultureInfo.InvariantCulture, $"{Human(bytes)} ({bytes} bytes)");
}
