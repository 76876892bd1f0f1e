using System.Globalization;

namespace ImageMount.Formats.Split;

/// <summary>How parts are called: a common beginning, then the number in three digits ("disk.001").</summary>
internal static class SplitName
{
    /// <summary>Largest number that has three digits.</summary>
    public const int MaxNumber = 999;

    private const string First = ".001";

    /// <summary>True when a name is that of a first part.</summary>
    public static bool IsFirst(string fileName) =>
        fileName.Length > First.Length && fileName.EndsWith(First, StringComparison.Ordinal);

    /// <summary>The name of another part of the same disk.</summary>
    public static string Of(string firstName, int number) =>
        string.Create(CultureInfo.InvariantCulture, $"{firstName[..^3]}{number:000}");
}
