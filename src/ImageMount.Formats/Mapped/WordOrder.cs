using System.Buffers.Binary;

namespace ImageMount.Formats.Mapped;

/// <summary>Byte order of the 64-bit words of an on-disk table.</summary>
public enum WordOrder
{
    /// <summary>Most significant byte first.</summary>
    BigEndian,

    /// <summary>Least significant byte first.</summary>
    LittleEndian,
}

/// <summary>What tables need to know of an order.</summary>
internal static class WordOrders
{
    /// <summary>True when stored words are the machine's words with their bytes reversed.</summary>
    public static bool IsReversed(this WordOrder order) =>
        (order == WordOrder.BigEndian) == BitConverter.IsLittleEndian;

    /// <summary>Reads a stored word.</summary>
    public static ulong Read(this WordOrder order, ReadOnlySpan<byte> stored) => order == WordOrder.BigEndian
        ? BinaryPrimitives.ReadUInt64BigEndian(stored)
        : BinaryPrimitives.ReadUInt64LittleEndian(stored);

    /// <summary>Stores a word.</summary>
    public static void Write(this WordOrder order, Span<byte> stored, ulong value)
    {
        if (order == WordOrder.BigEndian)
        {
            BinaryPrimitives.WriteUInt64BigEndian(stored, value);
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(stored, value);
        }
    }
}
