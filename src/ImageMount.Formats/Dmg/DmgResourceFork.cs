using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Dmg;

/// <summary>
/// Finds the block tables in a binary resource fork, which older images have instead of a property list ("Inside
/// Macintosh: More Macintosh Toolbox", chapter 1, "Resource File Format").
/// </summary>
internal static class DmgResourceFork
{
    private const uint BlockTableType = 0x626c6b78; // "blkx"

    /// <summary>Adds every table to <paramref name="tables"/>.</summary>
    /// <param name="fork">The resource fork.</param>
    /// <param name="offset">Where it is in the file, for messages.</param>
    /// <param name="tables">Where the tables go.</param>
    public static void Read(ReadOnlySpan<byte> fork, long offset, DmgTables tables)
    {
        try
        {
            Read(fork, tables);
        }
        catch (BlockException e)
        {
            e.Offset ??= offset;
            throw;
        }
    }

    private static void Read(ReadOnlySpan<byte> fork, DmgTables tables)
    {
        var header = new SpanReader(fork);
        ReadOnlySpan<byte> data = default;
        ReadOnlySpan<byte> map = default;
        if (!header.TryRead(out Be32 dataOffset) || !header.TryRead(out Be32 mapOffset)
            || !header.TryRead(out Be32 dataLength) || !header.TryRead(out Be32 mapLength)
            || !TrySlice(fork, dataOffset, dataLength, out data) || !TrySlice(fork, mapOffset, mapLength, out map))
        {
            throw Damaged("its parts lie outside it");
        }

        // Copy of the header (16), handle (4), file (2), attributes (2), then where types and names are.
        var reader = new SpanReader(map);
        if (!reader.TrySeek(24) || !reader.TryRead(out Be16 typesOffset) || !reader.TryRead(out Be16 namesOffset)
            || !reader.TrySeek(Math.Min(typesOffset.Value, map.Length)) || !reader.TryRead(out Be16 typeCount))
        {
            throw Damaged("its map is cut off");
        }

        // Counts are stored less one, so that 65535 is none.
        for (int i = (ushort)(typeCount + 1); i > 0; i--)
        {
            if (!reader.TryRead(out ForkType type))
            {
                throw Damaged("its list of types is cut off");
            }

            if (type.Name == BlockTableType)
            {
                int list = typesOffset + type.ListOffset;
                ReadType(data, map, list, (ushort)(type.Count + 1), namesOffset, tables);
            }
        }
    }

    private static void ReadType(
        ReadOnlySpan<byte> data, ReadOnlySpan<byte> map, int list, int count, int names, DmgTables tables)
    {
        var reader = new SpanReader(map);
        reader.TrySeek(Math.Min(list, map.Length));
        for (int i = 0; i < count; i++)
        {
            if (!reader.TryRead(out ForkResource resource))
            {
                throw Damaged("its list of resources is cut off");
            }

            uint at = resource.AttributesAndOffset & 0xffffff;
            if (!TrySlice(data, at, 4, out ReadOnlySpan<byte> length)
                || !TrySlice(data, at + 4, MemoryMarshal.Read<Be32>(length), out ReadOnlySpan<byte> table))
            {
                throw Damaged($"resource {(short)resource.Id.Value} lies outside it");
            }

            tables.Add(ReadName(map, names, resource.NameOffset), table);
        }
    }

    /// <summary>A length and as many characters; 65535 is no name.</summary>
    private static string ReadName(ReadOnlySpan<byte> map, int names, ushort offset) =>
        offset != ushort.MaxValue && TrySlice(map, (uint)(names + offset), 1, out ReadOnlySpan<byte> length)
            && TrySlice(map, (uint)(names + offset + 1), length[0], out ReadOnlySpan<byte> text)
            ? Encoding.Latin1.GetString(text) : "";

    private static bool TrySlice(ReadOnlySpan<byte> bytes, uint offset, uint length, out ReadOnlySpan<byte> slice)
    {
        bool isInside = offset <= bytes.Length && length <= bytes.Length - offset;
        slice = isInside ? bytes.Slice((int)offset, (int)length) : default;
        return isInside;
    }

    private static BlockException Damaged(string how) => BlockException.Invalid($"the resource fork is damaged: {how}");

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct ForkType
    {
        public Be32 Name;
        public Be16 Count;
        public Be16 ListOffset;
    }

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct ForkResource
    {
        public Be16 Id;
        public Be16 NameOffset;
        public Be32 AttributesAndOffset;
        public Be32 Handle;
    }
}
