using System.Buffers.Binary;
using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Journal;

/// <summary>
/// The index of a journal file as bytes: the number of blocks, then 16 bytes for each (its number, its entry), then what
/// else is kept. All numbers are little-endian; <see cref="JournalFile"/> guards it with a hash.
/// </summary>
internal sealed class JournalIndex
{
    private const int EntrySize = 16;

    private JournalIndex(IReadOnlyList<(long Block, JournalEntry Entry)> entries, byte[] state)
    {
        Entries = entries;
        State = state;
    }

    /// <summary>The blocks.</summary>
    public IReadOnlyList<(long Block, JournalEntry Entry)> Entries { get; }

    /// <summary>What is kept with them.</summary>
    public byte[] State { get; }

    /// <summary>Writes one.</summary>
    public static byte[] Write(IEnumerable<(long Block, JournalEntry Entry)> entries, ReadOnlySpan<byte> state)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        writer.Write(0L);
        long count = 0;
        foreach ((long block, JournalEntry entry) in entries)
        {
            writer.Write(block);
            writer.Write(entry.Bits);
            count++;
        }

        writer.Write(state);
        writer.Seek(0, SeekOrigin.Begin);
        writer.Write(count);
        writer.Flush();
        return stream.ToArray();
    }

    /// <summary>Reads one.</summary>
    /// <exception cref="BlockException">It is damaged.</exception>
    public static JournalIndex Parse(ReadOnlySpan<byte> bytes, JournalFile file)
    {
        long count = bytes.Length < 8 ? -1 : BinaryPrimitives.ReadInt64LittleEndian(bytes);
        if (count < 0 || count > (bytes.Length - 8) / EntrySize)
        {
            throw file.Damaged("its index is cut off");
        }

        var entries = new (long, JournalEntry)[count];
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> at = bytes.Slice(8 + i * EntrySize, EntrySize);
            long block = BinaryPrimitives.ReadInt64LittleEndian(at);
            var entry = new JournalEntry(BinaryPrimitives.ReadInt64LittleEndian(at[8..]));
            if (block < 0 || block > file.DiskLength / JournalBlocks.BlockSize || (entry.Data & entry.Zero) != 0
                || (entry.Data != 0) != entry.HasSlot || (entry.HasSlot && entry.Slot >= JournalFile.MaxSlots))
            {
                throw file.Damaged("its index has an impossible entry");
            }

            entries[i] = (block, entry);
        }

        return new JournalIndex(entries, bytes[(8 + (int)count * EntrySize)..].ToArray());
    }
}
