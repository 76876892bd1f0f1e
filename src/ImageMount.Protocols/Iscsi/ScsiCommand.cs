using System.Runtime.InteropServices;
using ImageMount.Interop;

namespace ImageMount.Protocols.Iscsi;

/// <summary>The bytes that tell a target what to do ("command descriptor block"), and which way its data goes.</summary>
internal readonly struct ScsiCommand
{
    /// <summary>The longest of the three forms.</summary>
    private readonly ScsiCdb16 _bytes;

    private ScsiCommand(ScsiCdb16 bytes, int length, ScsiDirection direction)
    {
        _bytes = bytes;
        Length = length;
        Direction = direction;
    }

    /// <summary>6, 10 or 16.</summary>
    public int Length { get; }

    /// <summary>Of the data.</summary>
    public ScsiDirection Direction { get; }

    /// <summary>What it does.</summary>
    public ScsiOperation Operation => _bytes.Operation;

    /// <summary>Is the unit there?</summary>
    public static ScsiCommand TestUnitReady => Six(new(ScsiOperation.TestUnitReady, 0, 0, 0, 0), ScsiDirection.None);

    /// <summary>The size of a small disk.</summary>
    public static ScsiCommand ReadCapacity10 =>
        Ten(new(ScsiOperation.ReadCapacity10, 0, 0, 0, 0, 0), ScsiDirection.In);

    /// <summary>All that was written is durable afterwards.</summary>
    public static ScsiCommand SynchronizeCache =>
        Ten(new(ScsiOperation.SynchronizeCache10, 0, 0, 0, 0, 0), ScsiDirection.None);

    /// <summary>What the unit is; <paramref name="page"/> null for the standard answer.</summary>
    public static ScsiCommand Inquiry(byte? page, int length) => Six(
        new(ScsiOperation.Inquiry, (byte)(page is null ? 0 : 1), page ?? 0, (ushort)length, 0), ScsiDirection.In);

    /// <summary>A mode page, without block descriptors; at most 255 bytes.</summary>
    public static ScsiCommand ModeSense(byte page, int length) =>
        Six(new(ScsiOperation.ModeSense6, 0x08, page, (ushort)length, 0), ScsiDirection.In);

    /// <summary>The size of a disk.</summary>
    public static ScsiCommand ReadCapacity16(int length) => Sixteen(
        new(ScsiOperation.ServiceActionIn16, (byte)ScsiServiceAction.ReadCapacity16, 0, (uint)length, 0, 0),
        ScsiDirection.In);

    /// <summary>What is mapped from a block on.</summary>
    public static ScsiCommand GetLbaStatus(long block, int length) => Sixteen(
        new(ScsiOperation.ServiceActionIn16, (byte)ScsiServiceAction.GetLbaStatus, (ulong)block, (uint)length, 0, 0),
        ScsiDirection.In);

    /// <summary>Reads blocks; the short form where <paramref name="isLarge"/> is false.</summary>
    public static ScsiCommand Read(bool isLarge, long block, int count) => isLarge
        ? Sixteen(new(ScsiOperation.Read16, 0, (ulong)block, (uint)count, 0, 0), ScsiDirection.In)
        : Ten(new(ScsiOperation.Read10, 0, (uint)block, 0, (ushort)count, 0), ScsiDirection.In);

    /// <summary>Writes blocks.</summary>
    public static ScsiCommand Write(bool isLarge, long block, int count, bool fua)
    {
        byte flags = (byte)(fua ? 0x08 : 0);
        return isLarge
            ? Sixteen(new(ScsiOperation.Write16, flags, (ulong)block, (uint)count, 0, 0), ScsiDirection.Out)
            : Ten(new(ScsiOperation.Write10, flags, (uint)block, 0, (ushort)count, 0), ScsiDirection.Out);
    }

    /// <summary>
    /// Writes the one block that is its data over all blocks, or gives their space up where that reads the same.
    /// </summary>
    public static ScsiCommand WriteSame(long block, long count, bool mayUnmap) => Sixteen(
        new(ScsiOperation.WriteSame16, (byte)(mayUnmap ? 0x08 : 0), (ulong)block, (uint)count, 0, 0), ScsiDirection.Out);

    /// <summary>Gives up space; ranges are its data.</summary>
    public static ScsiCommand Unmap(int length) =>
        Ten(new(ScsiOperation.Unmap, 0, 0, 0, (ushort)length, 0), ScsiDirection.Out);

    /// <summary>The bytes.</summary>
    public void CopyTo(Span<byte> target)
    {
        Span<byte> all = stackalloc byte[16];
        MemoryMarshal.Write(all, in _bytes);
        all[..Length].CopyTo(target);
    }

    private static ScsiCommand Six(in ScsiCdb6 cdb, ScsiDirection direction) => Make(cdb, 6, direction);

    private static ScsiCommand Ten(in ScsiCdb10 cdb, ScsiDirection direction) => Make(cdb, 10, direction);

    private static ScsiCommand Sixteen(in ScsiCdb16 cdb, ScsiDirection direction) => Make(cdb, 16, direction);

    private static ScsiCommand Make<T>(in T cdb, int length, ScsiDirection direction)
        where T : unmanaged
    {
        Span<byte> all = stackalloc byte[16];
        all.Clear();
        MemoryMarshal.Write(all, in cdb);
        return new ScsiCommand(MemoryMarshal.Read<ScsiCdb16>(all), length, direction);
    }
}
