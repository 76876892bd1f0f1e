using System.Globalization;

namespace ImageMount.VirtualFat.Applying;

/// <summary>The name that the second of two gets: "NAME (imgmount conflict N).ext".</summary>
internal static class ConflictName
{
    /// <summary>Most names that are tried.</summary>
    public const int MaxNumber = 9999;

    /// <summary>The name number <paramref name="number"/>, not longer than a host allows.</summary>
    public static HostPath Make(HostPath name, int number)
    {
        string suffix = string.Create(CultureInfo.InvariantCulture, $" (imgmount conflict {number})");
        int dot = name.Raw.LastIndexOf('.');
        int end = dot > 0 && name.Raw.Length - dot <= 16 ? dot : name.Raw.Length;
        int keep = Math.Min(end, HostPath.MaxName - suffix.Length - (name.Raw.Length - end));

        // Not between the bytes of one character.
        while (keep < end && keep > 0 && (name.Raw[keep] & 0xc0) == 0x80)
        {
            keep--;
        }

        return new HostPath(string.Concat(name.Raw.AsSpan(0, keep), suffix, name.Raw.AsSpan(end)));
    }
}
