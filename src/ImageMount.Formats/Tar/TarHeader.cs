using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Tar;

/// <summary>One header block.</summary>
/// <param name="Name">Name of the member, with its prefix.</param>
/// <param name="Size">Bytes of content that follow.</param>
/// <param name="Type">Kind of member.</param>
internal readonly record struct TarHeader(string Name, long Size, byte Type)
{
    /// <summary>
    /// True for members that are files; and a type that nobody knows is one (POSIX, pax Interchange Format,
    /// "typeflag"). What GNU's programs mean by D, K, L, M, N, S and V, and by x and g everybody, is none.
    /// </summary>
    public bool IsFile => HasContent && !"DKLMNSVgx"u8.Contains(Type);

    /// <summary>Links, devices and folders have no content, whatever their size says.</summary>
    public bool HasContent => Type is not ((byte)'1' or (byte)'2' or (byte)'3' or (byte)'4' or (byte)'5' or (byte)'6');

    /// <summary>True for a header whose checksum is right, counted as either kind of bytes.</summary>
    public static bool IsHeader(ReadOnlySpan<byte> block)
    {
        if (block.Length < TarLayout.BlockSize
            || !TryReadNumber(block.Slice(TarLayout.ChecksumAt, TarLayout.ChecksumSize), out long expected))
        {
            return false;
        }

        long unsigned = 0;
        long signed = 0;
        for (int i = 0; i < TarLayout.BlockSize; i++)
        {
            bool inChecksum = i is >= TarLayout.ChecksumAt and < TarLayout.ChecksumAt + TarLayout.ChecksumSize;
            byte value = inChecksum ? (byte)' ' : block[i];
            unsigned += value;
            signed += (sbyte)value;
        }

        return expected == unsigned || expected == signed;
    }

    /// <summary>Reads a header; what is wrong is InvalidData without a place.</summary>
    public static TarHeader Read(ReadOnlySpan<byte> block)
    {
        if (!IsHeader(block))
        {
            throw BlockException.Invalid("the checksum of a tar header is wrong, or there is no header");
        }

        if (!TryReadNumber(block.Slice(TarLayout.SizeAt, TarLayout.SizeSize), out long size))
        {
            throw BlockException.Invalid("the size in a tar header is not a number");
        }

        string name = Text(block.Slice(TarLayout.NameAt, TarLayout.NameSize));
        ReadOnlySpan<byte> magic = block[TarLayout.MagicAt..];
        if (magic.StartsWith(TarLayout.Magic) && magic[TarLayout.Magic.Length] == 0)
        {
            // GNU archives have other things here.
            string prefix = Text(block.Slice(TarLayout.PrefixAt, TarLayout.PrefixSize));
            name = prefix.Length == 0 ? name : $"{prefix}/{name}";
        }

        return new TarHeader(name, size, block[TarLayout.TypeAt]);
    }

    /// <summary>Text up to the first NUL.</summary>
    public static string Text(ReadOnlySpan<byte> bytes)
    {
        int end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }

    /// <summary>Octal digits between blanks, or base 256 with the highest bit set.</summary>
    private static bool TryReadNumber(ReadOnlySpan<byte> field, out long value)
    {
        value = 0;
        if (field[0] == 0x80)
        {
            foreach (byte digit in field[1..])
            {
                if (value >= 1L << 55)
                {
                    return false;
                }

                value = (value << 8) | digit;
            }

            return true;
        }

        field = field.TrimStart((byte)' ');
        int end = field.IndexOfAny((byte)' ', (byte)0);
        field = end < 0 ? field : field[..end];
        foreach (byte digit in field)
        {
            if (digit is < (byte)'0' or > (byte)'7')
            {
                return false;
            }

            value = (value << 3) | (uint)(digit - '0');
        }

        return field.Length > 0;
    }
}
