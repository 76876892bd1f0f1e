namespace ImageMount.VirtualFat.Journal;

/// <summary>Slots in a row.</summary>
internal readonly record struct JournalArea(uint First, uint Count);

/// <summary>
/// The two places of a part that is saved again and again, its index or its state: one holds what was saved, the other
/// takes what is saved next, so that whatever is cut off, the saved one is whole. They grow with the part, in steps.
/// </summary>
internal sealed class JournalAreas
{
    private JournalArea _saved;
    private JournalArea _spare;

    /// <summary>The place that the next saving writes to.</summary>
    /// <param name="slots">Slots that it takes.</param>
    /// <param name="allocate">Takes slots in a row.</param>
    /// <param name="free">Gives back a place that is too small.</param>
    public JournalArea Next(uint slots, Func<uint, JournalArea> allocate, Action<JournalArea> free)
    {
        if (_spare.Count < slots || slots == 0)
        {
            free(_spare);
            _spare = default;
            _spare = allocate(slots + slots / 2);
        }

        return _spare;
    }

    /// <summary>It was saved there.</summary>
    public void Done() => (_saved, _spare) = (_spare, _saved);

    /// <summary>
    /// Whether it was saved there is not known: that place is left alone until another saving has made sure.
    /// </summary>
    public JournalArea GiveUp()
    {
        JournalArea doubtful = _spare;
        _spare = default;
        return doubtful;
    }

    /// <summary>Begins with what a journal has.</summary>
    public void Load(JournalPart part) => _saved = new JournalArea(part.Slot, part.SlotCount);
}
