using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Journal;

/// <summary>
/// Where the blocks of a journal are: slots of 4 KiB, in memory up to a bound and then in the file. Slots that become free
/// are used again only when no saved index can lead to them any more. Guarded by the lock of <see cref="JournalBlocks"/>.
/// </summary>
/// <param name="memory">Bytes to keep in memory.</param>
/// <param name="file">Where the rest goes.</param>
internal sealed class JournalSlots(long memory, JournalFile file)
{
    private const int BlockSize = JournalBlocks.BlockSize;
    private readonly long _memoryBlocks = memory / BlockSize;
    private readonly Dictionary<uint, byte[]> _memory = [];
    private readonly HashSet<uint> _unsaved = [];
    private readonly Stack<uint> _free = new();
    private readonly List<uint> _freeAfterSaving = [];
    private uint _next;

    /// <summary>Slots that hold something.</summary>
    public long UsedCount => (long)_next - _free.Count - _freeAfterSaving.Count;

    /// <summary>True when a saved index may lead to slots.</summary>
    public bool HasIndex { get; set; }

    /// <summary>Begins with what a journal has; all others are free.</summary>
    public void Load(HashSet<uint> used)
    {
        HasIndex = true;
        _next = used.Count == 0 ? 0 : used.Max() + 1;
        for (uint slot = _next; slot-- > 0;)
        {
            if (!used.Contains(slot))
            {
                _free.Push(slot);
            }
        }
    }

    /// <summary>Takes one.</summary>
    /// <exception cref="BlockException">There is none.</exception>
    public uint Allocate()
    {
        uint slot = _free.TryPop(out uint free) ? free : AllocateArea(1).First;
        if (_memory.Count < _memoryBlocks)
        {
            _memory.Add(slot, new byte[BlockSize]);
        }

        return slot;
    }

    /// <summary>Takes some in a row.</summary>
    /// <exception cref="BlockException">There are not so many.</exception>
    public JournalArea AllocateArea(uint count)
    {
        if (count > JournalFile.MaxSlots - _next)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the journal of the folder is full");
        }

        var area = new JournalArea(_next, count);
        _next += count;
        return area;
    }

    /// <summary>Gives one back that a saved index may lead to.</summary>
    public void Free(uint slot)
    {
        _memory.Remove(slot);
        _unsaved.Remove(slot);
        if (HasIndex)
        {
            _freeAfterSaving.Add(slot);
        }
        else
        {
            _free.Push(slot);
        }
    }

    /// <summary>Gives one back that was taken just now.</summary>
    public void GiveBack(uint slot)
    {
        _memory.Remove(slot);
        _unsaved.Remove(slot);
        _free.Push(slot);
    }

    /// <summary>Gives some back.</summary>
    /// <param name="area">Which.</param>
    /// <param name="isDoubtful">What is saved may lead to them.</param>
    public void Release(JournalArea area, bool isDoubtful)
    {
        for (uint i = 0; i < area.Count; i++)
        {
            if (isDoubtful)
            {
                _freeAfterSaving.Add(area.First + i);
            }
            else
            {
                _free.Push(area.First + i);
            }
        }
    }

    /// <summary>Writes a part of one.</summary>
    public void Write(uint slot, int within, ReadOnlySpan<byte> bytes)
    {
        if (_memory.TryGetValue(slot, out byte[]? memory))
        {
            bytes.CopyTo(memory.AsSpan(within));
            _unsaved.Add(slot);
        }
        else
        {
            file.WriteSlot(slot, within, bytes);
        }
    }

    /// <summary>Reads a part of one.</summary>
    public void Read(uint slot, int within, Span<byte> buffer)
    {
        if (_memory.TryGetValue(slot, out byte[]? memory))
        {
            memory.AsSpan(within, buffer.Length).CopyTo(buffer);
        }
        else
        {
            file.ReadSlot(slot, within, buffer);
        }
    }

    /// <summary>Writes to the file what it does not have.</summary>
    public void WriteBack()
    {
        foreach (uint slot in _unsaved)
        {
            file.WriteSlot(slot, 0, _memory[slot]);
        }
    }

    /// <summary>Everything was saved.</summary>
    public void Saved()
    {
        _unsaved.Clear();
        foreach (uint slot in _freeAfterSaving)
        {
            _free.Push(slot);
        }

        _freeAfterSaving.Clear();
    }
}
