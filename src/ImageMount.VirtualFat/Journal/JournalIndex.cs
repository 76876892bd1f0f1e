using System.Buffers.Binary;
using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Journal;

/// <summary>
/// The index of a journal file as bytes: 16 for each block, its number and its entry, both little-endian.
/// <see cref="JournalFile"/> guards it with a hash.
/// </summary>
internal static class JournalIndex
{
    /// <summary>Most blocks: 256 GiB.</summary>
    public const int MaxBlocks = JournalFile.MaxPart / EntrySize;

    private const int EntrySize = 16;

    /// <summary>Writes one.</summary>
    public static byte[] Write(IEnumerable<(long Block, JournalEntry Entry)> entries, int count)
    {
        byte[] bytes = new byte[count * EntrySize];
        int at = 0;
        foreach ((long block, JournalEntry entry) in entries)
        {
            BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(at), block);
            BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(at + sizeof(long)), entry.WithPin(false).Bits);
            at += EntrySize;
        }

        return bytes;
    }

    /// <summary>Reads one.</summary>
    /// <exception cref="BlockException">It is damaged.</exception>
    public static (long Block, JournalEntry Entry)[] Parse(ReadOnlySpan<byte> bytes, JournalFile file)
    {
        if (bytes.Length % EntrySize != 0)
        {
            throw file.Damaged("its index is cut off");
        }

        var entries = new (long, JournalEntry)[bytes.Length / EntrySize];
        for (int i = 0; i < entries.Length; i++)
        {
            ReadOnlySpan<byte> at = bytes.Slice(i * EntrySize, EntrySize);
            long block = BinaryPrimitives.ReadInt64LittleEndian(at);
            var entry = new JournalEntry(BinaryPrimitives.ReadInt64LittleEndian(at[8..]));
            if (block < 0 || block > file.DiskLength / JournalBlocks.BlockSize || (entry.Data & entry.Zero) != 0
                || entry.Bits == 0 || entry.IsPinned || (entry.Data != 0) != entry.HasSlot
                || (entry.HasSlot && entry.Slot >= JournalFile.MaxSlots))
            {
                throw file.Damaged("its index has an impossible entry");
            }

            entries[i] = (block, entry);
        }

        return entries;
    }
}
