using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace ImageMount.Core.Bits;

/// <summary>A 16-bit unsigned integer stored big-endian; converts at the type, so a swap cannot be forgotten.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Be16
{
    private readonly ushort _raw;

    /// <summary>Stores a value.</summary>
    public Be16(ushort value) => _raw = BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value;

    /// <summary>The value in the machine's order.</summary>
    public ushort Value => BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(_raw) : _raw;

    /// <summary>Reads the value.</summary>
    public static implicit operator ushort(Be16 stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator Be16(ushort value) => new(value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A 32-bit unsigned integer stored big-endian; converts at the type, so a swap cannot be forgotten.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Be32
{
    private readonly uint _raw;

    /// <summary>Stores a value.</summary>
    public Be32(uint value) => _raw = BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value;

    /// <summary>The value in the machine's order.</summary>
    public uint Value => BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(_raw) : _raw;

    /// <summary>Reads the value.</summary>
    public static implicit operator uint(Be32 stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator Be32(uint value) => new(value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A 64-bit unsigned integer stored big-endian; converts at the type, so a swap cannot be forgotten.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Be64
{
    private readonly ulong _raw;

    /// <summary>Stores a value.</summary>
    public Be64(ulong value) => _raw = BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value;

    /// <summary>The value in the machine's order.</summary>
    public ulong Value => BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(_raw) : _raw;

    /// <summary>Reads the value.</summary>
    public static implicit operator ulong(Be64 stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator Be64(ulong value) => new(value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A 16-bit unsigned integer stored little-endian; converts at the type, so a swap cannot be forgotten.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Le16
{
    private readonly ushort _raw;

    /// <summary>Stores a value.</summary>
    public Le16(ushort value) => _raw = !BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value;

    /// <summary>The value in the machine's order.</summary>
    public ushort Value => !BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(_raw) : _raw;

    /// <summary>Reads the value.</summary>
    public static implicit operator ushort(Le16 stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator Le16(ushort value) => new(value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A 32-bit unsigned integer stored little-endian; converts at the type, so a swap cannot be forgotten.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Le32
{
    private readonly uint _raw;

    /// <summary>Stores a value.</summary>
    public Le32(uint value) => _raw = !BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value;

    /// <summary>The value in the machine's order.</summary>
    public uint Value => !BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(_raw) : _raw;

    /// <summary>Reads the value.</summary>
    public static implicit operator uint(Le32 stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator Le32(uint value) => new(value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A 64-bit unsigned integer stored little-endian; converts at the type, so a swap cannot be forgotten.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Le64
{
    private readonly ulong _raw;

    /// <summary>Stores a value.</summary>
    public Le64(ulong value) => _raw = !BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value;

    /// <summary>The value in the machine's order.</summary>
    public ulong Value => !BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(_raw) : _raw;

    /// <summary>Reads the value.</summary>
    public static implicit operator ulong(Le64 stored) => stored.Value;

    /// <summary>Stores a value.</summary>
    public static implicit operator Le64(ulong value) => new(value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}
