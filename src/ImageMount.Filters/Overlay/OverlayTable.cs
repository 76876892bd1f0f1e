using System.Collections.Concurrent;

namespace ImageMount.Filters.Overlay;

/// <summary>
/// What the overlay says of a cluster: for each of its 16 blocks whether the slot holds it, whether it is zero, or
/// (neither) whether the parent answers; and the number of the slot. One 64-bit word, changed by compare-and-swap.
/// </summary>
internal readonly record struct OverlayEntry(long Bits)
{
    private const int AllBlocks = 0xFFFF;

    /// <summary>Every block is zero; no slot.</summary>
    public static OverlayEntry AllZero => new((long)AllBlocks << 16);

    /// <summary>Blocks that the slot holds.</summary>
    public int Data => (int)(Bits & AllBlocks);

    /// <summary>Blocks that are zero.</summary>
    public int Zero => (int)(Bits >> 16 & AllBlocks);

    /// <summary>True when there is a slot, used or not.</summary>
    public bool HasSlot => Bits >>> 32 != 0;

    /// <summary>Number of the slot.</summary>
    public uint Slot => (uint)(Bits >>> 32) - 1;

    public OverlayEntry WithSlot(uint slot) => new((Bits & uint.MaxValue) | ((long)(slot + 1) << 32));

    public OverlayEntry WithData(int blocks) => new((Bits | (long)blocks) & ~((long)blocks << 16));

    public OverlayEntry WithZero(int blocks) => new((Bits & ~(long)blocks) | ((long)blocks << 16));

    /// <summary>Blocks as the parent has them.</summary>
    public OverlayEntry WithParent(int blocks) => new(Bits & ~((long)blocks | ((long)blocks << 16)));
}

/// <summary>
/// Entries by cluster number in groups of 512. Groups exist where something differs from the parent; all groups that
/// are zero throughout are one shared array, so that zeroing a huge disk costs next to nothing.
/// </summary>
internal sealed class OverlayTable
{
    /// <summary>Clusters of a group.</summary>
    public const int GroupSize = 512;

    private static readonly long[] s_zeroGroup = MakeZeroGroup();
    private readonly ConcurrentDictionary<long, long[]> _groups = new();

    /// <summary>Numbers of the groups that exist.</summary>
    public IEnumerable<long> Groups => _groups.Keys;

    /// <summary>The entry of a cluster.</summary>
    public OverlayEntry Get(long cluster) =>
        _groups.TryGetValue(cluster / GroupSize, out long[]? group)
            ? new OverlayEntry(Volatile.Read(ref group[cluster % GroupSize]))
            : default;

    /// <summary>True when all clusters of the group that this one begins are the parent's.</summary>
    public bool IsUntouchedGroup(long cluster) => !_groups.ContainsKey(cluster / GroupSize);

    /// <summary>Replaces an entry if it still is what it was.</summary>
    public bool TryReplace(long cluster, OverlayEntry old, OverlayEntry replacement)
    {
        long[] group = OwnGroup(cluster / GroupSize);
        return Interlocked.CompareExchange(ref group[cluster % GroupSize], replacement.Bits, old.Bits) == old.Bits;
    }

    /// <summary>Makes a whole group zero at once; false when it holds something, and nothing is done.</summary>
    public bool TryZeroGroup(long number) =>
        _groups.TryAdd(number, s_zeroGroup)
        || (_groups.TryGetValue(number, out long[]? group) && ReferenceEquals(group, s_zeroGroup));

    /// <summary>Forgets a group. Nobody may be using its clusters.</summary>
    public void Remove(long number) => _groups.TryRemove(number, out _);

    private static long[] MakeZeroGroup()
    {
        var group = new long[GroupSize];
        Array.Fill(group, OverlayEntry.AllZero.Bits);
        return group;
    }

    private long[] OwnGroup(long number)
    {
        while (true)
        {
            if (!_groups.TryGetValue(number, out long[]? group))
            {
                group = new long[GroupSize];
                if (_groups.TryAdd(number, group))
                {
                    return group;
                }
            }
            else if (!ReferenceEquals(group, s_zeroGroup))
            {
                return group;
            }
            else
            {
                var own = (long[])s_zeroGroup.Clone();
                if (_groups.TryUpdate(number, own, s_zeroGroup))
                {
                    return own;
                }
            }
        }
    }
}
