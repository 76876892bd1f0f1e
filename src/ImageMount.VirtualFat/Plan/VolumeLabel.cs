using ImageMount.Core.Block;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Plan;

/// <summary>Labels of volumes: up to 11 characters of ASCII in capitals, spaces among them.</summary>
internal static class VolumeLabel
{
    private const string Forbidden = "\"*+,./:;<=>?[\\]|";

    /// <summary>The label as stored; null for an empty one. An InvalidArgument when it cannot be one.</summary>
    public static ShortName83? Parse(string label)
    {
        if (label.Length == 0)
        {
            return null;
        }

        bool isGood = label.Length <= ShortName83.Size && label[0] != ' ';
        foreach (char c in label)
        {
            isGood &= c is >= ' ' and < '\x7f' && !Forbidden.Contains(c);
        }

        if (!isGood)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "this cannot be the label of a FAT volume")
            {
                Found = $"'{ScanReport.Printable(label)}'",
                Expected = $"up to 11 characters of ASCII, none of {Forbidden}, not beginning with a space",
            };
        }

        string padded = label.ToUpperInvariant().PadRight(ShortName83.Size);
        return ShortName83.FromParts(padded.AsSpan(0, ShortName83.BaseSize), padded.AsSpan(ShortName83.BaseSize));
    }
}
