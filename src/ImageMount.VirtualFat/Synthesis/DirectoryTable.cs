using System.Runtime.InteropServices;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;
using ImageMount.VirtualFat.Plan;

namespace ImageMount.VirtualFat.Synthesis;

/// <summary>
/// Directories, made when they are read and kept while there is room: a bounded number of bytes, the oldest forgotten
/// first. Making one again gives the same bytes. Any number of threads may read.
/// </summary>
/// <param name="plan">The plan.</param>
internal sealed class DirectoryTable(FatPlan plan)
{
    private const int MaxKept = 8 << 20;
    private readonly Lock _lock = new();
    private readonly Dictionary<int, LinkedListNode<(int Entry, byte[] Bytes)>> _kept = [];
    private readonly LinkedList<(int Entry, byte[] Bytes)> _order = new();
    private long _keptBytes;

    /// <summary>The entries of a folder, without the unused room behind them.</summary>
    public byte[] Get(int folder)
    {
        lock (_lock)
        {
            if (_kept.TryGetValue(folder, out LinkedListNode<(int Entry, byte[] Bytes)>? node))
            {
                _order.Remove(node);
                _order.AddFirst(node);
                return node.Value.Bytes;
            }
        }

        byte[] made = Make(folder);
        lock (_lock)
        {
            if (!_kept.ContainsKey(folder))
            {
                _kept[folder] = _order.AddFirst((folder, made));
                _keptBytes += made.Length;
            }

            while (_keptBytes > MaxKept && _order.Count > 1)
            {
                (int oldest, byte[] bytes) = _order.Last!.Value;
                _order.RemoveLast();
                _kept.Remove(oldest);
                _keptBytes -= bytes.Length;
            }
        }

        return made;
    }

    private byte[] Make(int folder)
    {
        EntryTable table = plan.Table;
        ref EntryRecord own = ref table[folder];
        byte[] bytes = new byte[own.Size];
        Span<DirectoryEntry> slots = MemoryMarshal.Cast<byte, DirectoryEntry>(bytes.AsSpan());
        int at = 0;
        if (folder != 0)
        {
            slots[at++] = LinkTo(own, ShortName83.Dot, own.FirstCluster);

            // 0 where that is the root folder, whatever its cluster ("Directory Creation").
            ref EntryRecord parent = ref table[own.Parent];
            slots[at++] = LinkTo(parent, ShortName83.DotDot, own.Parent == 0 ? 0 : parent.FirstCluster);
        }
        else if (plan.Volume.Label is { } label)
        {
            slots[at++] = new DirectoryEntry
            {
                Name = label,
                Attributes = FatAttributes.VolumeId,
                Times = plan.Volume.LabelTimes with { CreationDate = 0, CreationTime = 0, CreationHundredths = 0 },
            };
        }

        for (int child = own.FirstChild; child < own.FirstChild + own.ChildCount; child++)
        {
            ref EntryRecord record = ref table[child];
            if (record.LongUnits > 0)
            {
                string name = table.LongNameOf(child);
                Span<DirectoryEntry> parts = slots.Slice(at, LongName.EntriesFor(name.Length));
                LongName.Pack(
                    name, record.ShortName.Checksum(), MemoryMarshal.Cast<DirectoryEntry, LongNameEntry>(parts));
                at += parts.Length;
            }

            slots[at++] = EntryOf(record);
        }

        return bytes;
    }

    private static DirectoryEntry EntryOf(in EntryRecord record)
    {
        bool isFolder = (record.Attributes & FatAttributes.Directory) != 0;
        return new DirectoryEntry
        {
            Name = record.ShortName,
            Attributes = record.Attributes,
            Case = record.Case,
            Times = record.Times,
            FirstCluster = record.FirstCluster,
            Size = isFolder ? 0 : record.Size,
        };
    }

    private static DirectoryEntry LinkTo(in EntryRecord folder, ShortName83 name, uint cluster) => new()
    {
        Name = name,
        Attributes = FatAttributes.Directory,
        Times = folder.Times,
        FirstCluster = cluster,
    };
}
