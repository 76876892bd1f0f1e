using System.Runtime.InteropServices;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Names;

/// <summary>
/// A name of 8 and 3 bytes as a directory stores it, filled up with spaces, without the dot; also a volume's label,
/// which has 11 bytes in the same place. It has the size of what it stands for, so that tables of it are compact.
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ShortName83
{
    /// <summary>Bytes.</summary>
    public const int Size = 11;

    /// <summary>Bytes before the dot.</summary>
    public const int BaseSize = 8;

    /// <summary>"." as the first entry of a folder.</summary>
    public static readonly ShortName83 Dot = FromBytes(".          "u8);

    /// <summary>".." as the second one.</summary>
    public static readonly ShortName83 DotDot = FromBytes("..         "u8);

    // Only their memory counts, never their value.
    private readonly ulong _first;
    private readonly ushort _second;
    private readonly byte _third;

    /// <summary>Takes 11 bytes as stored.</summary>
    public static ShortName83 FromBytes(ReadOnlySpan<byte> bytes) => MemoryMarshal.Read<ShortName83>(bytes[..Size]);

    /// <summary>Takes up to 8 and up to 3 characters of ASCII.</summary>
    public static ShortName83 FromParts(ReadOnlySpan<char> name, ReadOnlySpan<char> extension)
    {
        Span<byte> bytes = stackalloc byte[Size];
        bytes.Fill((byte)' ');
        for (int i = 0; i < name.Length; i++)
        {
            bytes[i] = (byte)name[i];
        }

        for (int i = 0; i < extension.Length; i++)
        {
            bytes[BaseSize + i] = (byte)extension[i];
        }

        return FromBytes(bytes);
    }

    /// <summary>The bytes as stored.</summary>
    public void CopyTo(Span<byte> bytes) => MemoryMarshal.Write(bytes, in this);

    /// <summary>The sum that ties the parts of a long name to this one ("ChkSum"): rotate right and add.</summary>
    public byte Checksum()
    {
        Span<byte> bytes = stackalloc byte[Size];
        CopyTo(bytes);
        byte sum = 0;
        foreach (byte b in bytes)
        {
            sum = (byte)((byte)(sum >> 1 | sum << 7) + b);
        }

        return sum;
    }

    /// <summary>
    /// As programs show it: with the dot, and in lower case where the flags say so. Bytes from 0x80 on become U+F0xx: what
    /// they stand for depends on a code page that the volume does not name.
    /// </summary>
    public string ToText(NameCase nameCase)
    {
        Span<byte> bytes = stackalloc byte[Size];
        CopyTo(bytes);
        Span<char> text = stackalloc char[Size + 1];
        int length = Append(bytes[..BaseSize], (nameCase & NameCase.LowerBase) != 0, text);
        int extension = Append(bytes[BaseSize..], (nameCase & NameCase.LowerExtension) != 0, text[(length + 1)..]);
        if (bytes[0] == DirectoryEntry.KanjiMark)
        {
            text[0] = (char)(0xf000 | DirectoryEntry.FreeMark);
        }

        if (extension > 0)
        {
            text[length] = '.';
            length += 1 + extension;
        }

        return new string(text[..length]);
    }

    /// <inheritdoc/>
    public override string ToString() => ToText(NameCase.None);

    private static int Append(ReadOnlySpan<byte> part, bool lower, Span<char> text)
    {
        part = part.TrimEnd((byte)' ');
        for (int i = 0; i < part.Length; i++)
        {
            char c = part[i] < 0x80 ? (char)part[i] : (char)(0xf000 | part[i]);
            text[i] = lower ? char.ToLowerInvariant(c) : c;
        }

        return part.Length;
    }
}
