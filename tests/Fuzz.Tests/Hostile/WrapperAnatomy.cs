using System.Buffers.Binary;
using System.Text;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Where compressed files and archives have numbers; reads valid files.</summary>
public sealed class WrapperAnatomy
{
    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    private WrapperAnatomy(byte[] image) => _image = image;

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), _image.Length];

    /// <summary>Headers and trailers of members: each magic with a plausible header begins one (RFC 1952).</summary>
    public static WrapperAnatomy Gzip(byte[] image)
    {
        var a = new WrapperAnatomy(image);
        for (int at = 0; at + 18 <= image.Length; at++)
        {
            if (!image.AsSpan(at).StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b, 8]))
            {
                continue;
            }

            a.Structure(at, 18);
            a.Add("magic", at, 2, false);
            a.Add("method", at + 2, 1, false);
            a.Add("flags", at + 3, 1, false);
            if ((image[at + 3] & 4) != 0)
            {
                a.Add("extra length", at + 10, 2, false);
                a.Add("subfield length", at + 14, 2, false);
                a.Add("block size", at + 16, 2, false);
            }
            else
            {
                a.Add("first block", at + 10, 4, false);
            }

            if (at > 0)
            {
                a.Trailer(at - 8);
            }
        }

        a.Trailer(image.Length - 8);
        return a;
    }

    /// <summary>Headers, indexes and footers of streams, from the end (The .xz File Format, 2.1).</summary>
    public static WrapperAnatomy Xz(byte[] image)
    {
        var a = new WrapperAnatomy(image);
        int end = image.Length;
        while (end > 0 && image.AsSpan(0, end).EndsWith("YZ"u8))
        {
            int footer = end - 12;
            int index = footer - (((int)a.U32(footer + 4) + 1) * 4);
            int header = image.AsSpan(0, index).LastIndexOf(
                (ReadOnlySpan<byte>)[0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0]);
            a.Structure(footer, 12);
            a.Structure(index, footer - index);
            a.Structure(header, 24);
            a.Add("footer crc", footer, 4, false);
            a.Add("backward size", footer + 4, 4, false);
            a.Add("footer flags", footer + 8, 2, true);
            a.Add("footer magic", footer + 10, 2, false);
            for (int at = index; at < footer; at++)
            {
                a.Add("index byte", at, 1, false);
            }

            a.Add("magic", header, 4, true);
            a.Add("flags", header + 6, 2, true);
            a.Add("header crc", header + 8, 4, false);
            a.Add("block header size", header + 12, 1, false);
            a.Add("block flags", header + 13, 1, false);
            a.Add("block header", header + 14, 4, false);
            end = image.AsSpan(0, header).LastIndexOfAnyExcept((byte)0) + 1;
        }

        return a;
    }

    /// <summary>What begins at a byte: stream headers with their first block; and the end.</summary>
    public static WrapperAnatomy Bzip2(byte[] image)
    {
        var a = new WrapperAnatomy(image);
        for (int at = 0; at + 24 <= image.Length; at++)
        {
            if (image.AsSpan(at).StartsWith("BZh"u8))
            {
                a.Structure(at, 24);
                a.Add("magic", at, 2, true);
                a.Add("level", at + 3, 1, true);
                a.Add("block magic", at + 4, 4, true);
                a.Add("block crc", at + 10, 4, true);
                a.Add("randomised and origin", at + 14, 4, true);
                a.Add("symbol map", at + 17, 2, true);
            }
        }

        a.Structure(image.Length - 12, 12);
        a.Add("end magic, about", image.Length - 10, 4, true);
        a.Add("stream crc, about", image.Length - 5, 4, true);
        return a;
    }

    /// <summary>Frames and the seek table (RFC 8878, 3.1.1).</summary>
    public static WrapperAnatomy Zstd(byte[] image)
    {
        var a = new WrapperAnatomy(image);
        for (int at = 0; at + 12 <= image.Length; at++)
        {
            if (image.AsSpan(at).StartsWith((ReadOnlySpan<byte>)[0x28, 0xb5, 0x2f, 0xfd]))
            {
                a.Structure(at, 16);
                a.Add("magic", at, 4, false);
                a.Add("descriptor", at + 4, 1, false);
                a.Add("window or size", at + 5, 1, false);
                a.Add("size and block", at + 5, 4, false);
                a.Add("block header", at + 8, 2, false);
            }
        }

        if (a.U32(image.Length - 4) == 0x8f92eab1)
        {
            int table = image.Length - 25;
            a.Structure(table, 25);
            a.Add("table magic", table, 4, false);
            a.Add("table size", table + 4, 4, false);
            a.Add("entry stored", table + 8, 4, false);
            a.Add("entry length", table + 12, 4, false);
            a.Add("table frames", table + 16, 4, false);
            a.Add("table descriptor", table + 20, 1, false);
        }

        a.Structure(image.Length - 8, 8);
        a.Add("checksum", image.Length - 4, 4, false);
        return a;
    }

    /// <summary>Header blocks, by their magic.</summary>
    public static WrapperAnatomy Tar(byte[] image)
    {
        var a = new WrapperAnatomy(image);
        for (int at = 0; at + 512 <= image.Length; at += 512)
        {
            if (Encoding.ASCII.GetString(image, at + 257, 5) != "ustar")
            {
                continue;
            }

            a.Structure(at, 512);
            a.Add("name", at, 4, true);
            a.Add("size", at + 124, 8, true);
            a.Add("size end", at + 132, 4, true);
            a.Add("checksum", at + 148, 8, true);
            a.Add("type", at + 156, 1, true);
            a.Add("magic", at + 257, 4, true);
            a.Add("prefix", at + 345, 4, true);
            a.Structure(at + 512, 64);
            a.Add("content", at + 512, 2, true);
        }

        return a;
    }

    private void Trailer(int at)
    {
        Structure(at, 8);
        Add("crc", at, 4, false);
        Add("length", at + 4, 4, false);
    }

    private void Structure(long start, long count) => _structures.Add((start, Math.Min(count, _image.Length - start)));

    private void Add(string name, long offset, int width, bool bigEndian)
    {
        if (offset >= 0 && offset + width <= _image.Length)
        {
            _fields.Add(new Field(name, offset, width, bigEndian));
        }
    }

    private uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_image.AsSpan(at));
}
