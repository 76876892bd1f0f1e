using System.Globalization;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>Seeds of the default run, and others: IMGMOUNT_FAT_SHIFT is added to each.</summary>
internal static class Seeds
{
    public static int Shift(int seed) => seed + (int.TryParse(
        Environment.GetEnvironmentVariable("IMGMOUNT_FAT_SHIFT"), CultureInfo.InvariantCulture, out int shift) ? shift : 0);
}
