using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Notes where header and tables lie, before an image is written: payload never goes there, and tables that lie over one
/// another cannot be changed safely.
/// </summary>
internal static class TableMap
{
    /// <summary>Notes fixed structures (offset, bytes) and every L2 table.</summary>
    /// <exception cref="BlockException">InvalidData: a table lies outside the file or over something else.</exception>
    public static MetadataMap Note(ClusterImage image, params ReadOnlySpan<(long Offset, long Count)> structures)
    {
        var metadata = new MetadataMap();
        var places = new List<(long Offset, long Count, int Index)>();
        foreach ((long offset, long count) in structures)
        {
            places.Add((offset, count, -1));
        }

        for (int i = 0; i < image.L1.Count; i++)
        {
            long table = image.TableOffset(image.L1[i], (long)i << image.Geometry.L1Shift);
            if (table == 0)
            {
                continue;
            }

            if (table > image.File.Length - image.Geometry.L2Size)
            {
                throw Bad(image, table, i);
            }

            places.Add((table, image.Geometry.L2Size, i));
        }

        places.Sort();
        long end = 0;
        foreach ((long offset, long count, int index) in places)
        {
            if (offset < end)
            {
                throw Bad(image, offset, index);
            }

            end = offset + count;
            long first = offset >> image.Geometry.ClusterBits;
            metadata.Add(first, ((end - 1) >> image.Geometry.ClusterBits) - first + 1, out _);
        }

        return metadata;
    }

    private static BlockException Bad(ClusterImage image, long table, int index) => BlockException.Invalid(
        "a table lies outside the file or over other metadata, so the image is not written",
        index < 0 ? table : image.L1.Offset + ((long)index * sizeof(ulong)), $"0x{table:x}");
}
