using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Synthesis;

/// <summary>The two kinds of ranges that a synthesised disk has.</summary>
internal static class Extents
{
    /// <summary>Zeroes that are nowhere stored.</summary>
    public static BlockExtent Zero(long length) => new(length, ExtentFlags.Zero | ExtentFlags.Present);

    /// <summary>Bytes.</summary>
    public static BlockExtent Data(long length) => new(length, ExtentFlags.Data | ExtentFlags.Present);
}
