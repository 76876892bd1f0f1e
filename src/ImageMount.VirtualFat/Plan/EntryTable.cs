using System.Text;
using System.Text.Unicode;
using ImageMount.Core.Block;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;

namespace ImageMount.VirtualFat.Plan;

/// <summary>What is kept of one file or folder; about 104 bytes, and its name besides.</summary>
internal struct EntryRecord
{
    /// <summary>Size on the host, bytes.</summary>
    public long HostSize;

    /// <summary>When it was last written on the host, nanoseconds since 1970.</summary>
    public long HostModifiedNs;

    /// <summary>When anything of it last changed on the host, nanoseconds since 1970.</summary>
    public long HostChangedNs;

    public ulong HostInode;
    public ulong HostDevice;

    /// <summary>Where the host's name begins in the pool of names.</summary>
    public long NameAt;

    /// <summary>The folder it is in; the root is its own.</summary>
    public int Parent;

    /// <summary>Folders: the first of its entries, which follow one another.</summary>
    public int FirstChild;

    /// <summary>Folders: how many there are.</summary>
    public int ChildCount;

    /// <summary>Files: size on the disk, bytes; folders: bytes of the directory, in whole entries.</summary>
    public uint Size;

    /// <summary>0 when there is none.</summary>
    public uint FirstCluster;

    public FatTimestamps Times;
    public ShortName83 ShortName;
    public NameCase Case;
    public FatAttributes Attributes;

    /// <summary>Bytes of the host's name.</summary>
    public byte NameLength;

    /// <summary>Units of the long name; 0 when the short one says it all.</summary>
    public byte LongUnits;

    /// <summary>Folders below the root folder that it is in.</summary>
    public ushort Depth;
}

/// <summary>
/// The files and folders of a plan, in proportion to whose number the plan takes memory: records in one array, names as
/// bytes in one pool. Entry 0 is the root folder; the entries of a folder follow one another. Filled by the scan, then
/// only read.
/// </summary>
internal sealed class EntryTable
{
    /// <summary>Most entries.</summary>
    public const int MaxEntries = 10_000_000;

    private const int ChunkSize = 1 << 20;
    private readonly List<byte[]> _names = [];
    private readonly Dictionary<int, string> _renamed = [];
    private EntryRecord[] _records = new EntryRecord[64];
    private int _nameRoom;

    /// <summary>Entries.</summary>
    public int Count { get; private set; }

    /// <summary>The record of an entry, to read or, while the plan is made, to change.</summary>
    public ref EntryRecord this[int entry] => ref _records.AsSpan(0, Count)[entry];

    /// <summary>Adds an entry with the name that it has on the host; returns its number.</summary>
    public int Add(in EntryRecord record, ReadOnlySpan<byte> hostName)
    {
        if (Count == MaxEntries)
        {
            throw BlockException.Limit("there are too many files and folders", Count + 1L, MaxEntries);
        }

        if (Count == _records.Length)
        {
            Array.Resize(ref _records, Count * 2);
        }

        if (hostName.Length > _nameRoom)
        {
            _names.Add(new byte[ChunkSize]);
            _nameRoom = ChunkSize;
        }

        int at = ChunkSize - _nameRoom;
        hostName.CopyTo(_names.Count > 0 ? _names[^1].AsSpan(at) : []);
        _nameRoom -= hostName.Length;
        _records[Count] = record with
        {
            NameAt = (long)Math.Max(_names.Count - 1, 0) * ChunkSize + at,
            NameLength = (byte)hostName.Length,
        };
        return Count++;
    }

    /// <summary>The name on the host, as bytes: it need not be text. Empty for the root folder.</summary>
    public ReadOnlySpan<byte> HostNameOf(int entry)
    {
        ref EntryRecord record = ref this[entry];
        return record.NameLength == 0
            ? []
            : _names[(int)(record.NameAt / ChunkSize)].AsSpan((int)(record.NameAt % ChunkSize), record.NameLength);
    }

    /// <summary>The name on the disk, whether or not a short name says it all. Empty for the root folder.</summary>
    public string LongNameOf(int entry) =>
        _renamed.TryGetValue(entry, out string? name) ? name : Encoding.UTF8.GetString(HostNameOf(entry));

    /// <summary>Gives an entry another name on the disk than on the host.</summary>
    public void Rename(int entry, string longName) => _renamed[entry] = longName;

    /// <summary>
    /// Takes entries at the end of the table out again, and moves the others together. Nothing may refer to them yet.
    /// </summary>
    /// <param name="first">The first of those that may go.</param>
    /// <param name="entries">Which of them go.</param>
    public void Remove(int first, List<int> entries)
    {
        if (entries.Count == 0)
        {
            return;
        }

        entries.Sort();
        int kept = first;
        int gone = 0;
        for (int entry = first; entry < Count; entry++)
        {
            if (gone < entries.Count && entries[gone] == entry)
            {
                gone++;
                continue;
            }

            if (_renamed.Remove(entry, out string? name))
            {
                _renamed[kept] = name;
            }

            _records[kept++] = _records[entry];
        }

        Count = kept;
    }

    /// <summary>Takes all entries from a number on out again.</summary>
    public void Truncate(int count)
    {
        for (int entry = count; entry < Count; entry++)
        {
            _renamed.Remove(entry);
        }

        Count = count;
    }

    /// <summary>A name as text; false, with U+FFFD in place of what is none, when it is not UTF-8.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> name, out string text)
    {
        bool isText = Utf8.IsValid(name);
        text = Encoding.UTF8.GetString(name);
        return isText;
    }

    /// <summary>The path below the root folder, for messages: bytes that are no text are shown as U+FFFD.</summary>
    public string PathOf(int entry)
    {
        if (entry == 0)
        {
            return ".";
        }

        var parts = new List<string>();
        for (int at = entry; at != 0; at = this[at].Parent)
        {
            parts.Add(Encoding.UTF8.GetString(HostNameOf(at)));
        }

        parts.Reverse();
        return string.Join('/', parts);
    }
}
