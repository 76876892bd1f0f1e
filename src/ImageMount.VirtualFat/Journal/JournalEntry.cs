namespace ImageMount.VirtualFat.Journal;

/// <summary>
/// What the journal says of a block of 8 sectors: for each sector whether its slot holds it, whether it is zero, or
/// (neither) whether the plan answers; for each whether it was written since the folder last followed; and the number
/// of the slot.
/// </summary>
internal readonly record struct JournalEntry(long Bits)
{
    /// <summary>All sectors of a block.</summary>
    public const int All = 0xff;

    private const long PinBit = 1L << 24;

    /// <summary>Sectors that the slot holds.</summary>
    public int Data => (int)(Bits & All);

    /// <summary>Sectors that are zero.</summary>
    public int Zero => (int)(Bits >> 8 & All);

    /// <summary>Sectors written since the folder last followed.</summary>
    public int Fresh => (int)(Bits >> 16 & All);

    /// <summary>
    /// A saved index leads to the slot, and calls some of it not fresh: it must not change in place. Only in memory.
    /// </summary>
    public bool IsPinned => (Bits & PinBit) != 0;

    /// <summary>True when there is a slot.</summary>
    public bool HasSlot => Bits >>> 32 != 0;

    /// <summary>Number of the slot.</summary>
    public uint Slot => (uint)(Bits >>> 32) - 1;

    /// <summary>Puts one together.</summary>
    public static JournalEntry Make(int data, int zero, int fresh, uint? slot) =>
        new((uint)data | (uint)zero << 8 | (uint)fresh << 16 | (slot is { } number ? (long)(number + 1) << 32 : 0L));

    /// <summary>Sectors now in the slot.</summary>
    public JournalEntry WithData(int sectors, uint slot) =>
        Make(Data | sectors, Zero & ~sectors, Fresh | sectors, slot).WithPin(IsPinned && HasSlot && slot == Slot);

    /// <summary>Sectors now zero; without a slot when that holds nothing any more.</summary>
    public JournalEntry WithZero(int sectors)
    {
        int data = Data & ~sectors;
        return Make(data, Zero | sectors, Fresh | sectors, data != 0 ? Slot : null).WithPin(IsPinned && data != 0);
    }

    /// <summary>An index that leads to it is saved.</summary>
    public JournalEntry Saved() => WithPin(IsPinned || (HasSlot && (Data & ~Fresh) != 0));

    /// <summary>As the index has it.</summary>
    public JournalEntry WithPin(bool isPinned) => new(isPinned ? Bits | PinBit : Bits & ~PinBit);

    /// <summary>The folder has not followed after all.</summary>
    public JournalEntry WithFresh(int sectors) => new(Bits | (long)sectors << 16);

    /// <summary>The folder has followed.</summary>
    public JournalEntry WithoutFresh(int sectors) => new(Bits & ~((long)sectors << 16));
}
