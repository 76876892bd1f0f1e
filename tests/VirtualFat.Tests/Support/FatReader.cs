using System.Buffers.Binary;
using System.Text;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>A file or folder as it stands on a volume.</summary>
internal sealed record FatFile(
    string Path, bool IsFolder, byte[] Content, byte Attributes, string ShortName, int WriteDate, int WriteTime);

/// <summary>
/// Reads a FAT volume by the specification and by nothing of the product: bare offsets, every chain followed in the FAT,
/// every rule asserted. What peers cannot show (names beyond their character set) is compared with this.
/// </summary>
internal sealed class FatReader
{
    private readonly byte[] _disk;
    private readonly int _volume;
    private readonly int _clusterSize;
    private readonly int _fatStart;
    private readonly int _dataStart;
    private readonly HashSet<uint> _seen = [];

    public FatReader(byte[] disk)
    {
        _disk = disk;
        Assert.Equal(0xaa55, U16(510));
        if (disk[0] != 0xeb || disk[11] == 0 && disk[12] != 2)
        {
            // No boot sector: a partition table.
            _volume = (int)U32(446 + 8) * 512;
            Assert.True(_volume > 0 && _volume + U32(446 + 12) * 512L <= disk.Length, "the partition leaves the disk");
        }

        Assert.Equal(512, U16(_volume + 11));
        int reserved = U16(_volume + 14);
        int fats = disk[_volume + 16];
        int rootEntries = U16(_volume + 17);
        long sectors = U16(_volume + 19) != 0 ? U16(_volume + 19) : U32(_volume + 32);
        long fatSectors = U16(_volume + 22) != 0 ? U16(_volume + 22) : U32(_volume + 36);
        _clusterSize = disk[_volume + 13] * 512;
        _fatStart = _volume + reserved * 512;
        int rootStart = (int)(_fatStart + fats * fatSectors * 512);
        _dataStart = rootStart + (rootEntries * 32 + 511) / 512 * 512;
        Clusters = (uint)((sectors * 512 - (_dataStart - _volume)) / _clusterSize);
        Bits = Clusters < 4085 ? 12 : Clusters < 65525 ? 16 : 32;
        Assert.True((Clusters + 2) * Bits <= fatSectors * 512 * 8, "the FAT is too small");
        Assert.Equal(disk[_volume + 21], (byte)Entry(0));
        Assert.True(Entry(1) >= End, "the volume is not marked clean");
        for (int copy = 1; copy < fats; copy++)
        {
            Assert.True(
                disk.AsSpan(_fatStart, (int)fatSectors * 512).SequenceEqual(
                    disk.AsSpan(_fatStart + copy * (int)fatSectors * 512, (int)fatSectors * 512)),
                "the FATs differ");
        }

        byte[] root = Bits == 32 ? Chain(U32(_volume + 44), null) : disk[rootStart.._dataStart];
        ReadAll(root);
        CheckUnused();
    }

    public int Bits { get; }

    public uint Clusters { get; }

    public string? Label { get; private set; }

    public List<FatFile> Files { get; } = [];

    private uint End => Bits switch { 12 => 0xff8, 16 => 0xfff8, _ => 0x0ffffff8 };

    private int U16(int at) => BinaryPrimitives.ReadUInt16LittleEndian(_disk.AsSpan(at));

    private uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_disk.AsSpan(at));

    private uint Entry(uint cluster)
    {
        if (Bits == 12)
        {
            int pair = U16(_fatStart + (int)(cluster * 3 / 2));
            return (uint)(cluster % 2 == 0 ? pair & 0xfff : pair >> 4);
        }

        return Bits == 16 ? (uint)U16(_fatStart + (int)cluster * 2) : U32(_fatStart + (int)cluster * 4) & 0x0fffffff;
    }

    private byte[] Chain(uint cluster, long? size)
    {
        using var bytes = new MemoryStream();
        while (cluster < End)
        {
            Assert.InRange(cluster, 2u, Clusters + 1);
            Assert.True(_seen.Add(cluster), $"cluster {cluster} belongs to two");
            bytes.Write(_disk, _dataStart + (int)(cluster - 2) * _clusterSize, _clusterSize);
            cluster = Entry(cluster);
        }

        byte[] all = bytes.ToArray();
        if (size is not { } length)
        {
            return all;
        }

        Assert.Equal((length + _clusterSize - 1) / _clusterSize * _clusterSize, all.Length);
        Assert.True(all.AsSpan((int)length).IndexOfAnyExcept((byte)0) < 0, "what follows a file is not zero");
        return all[..(int)length];
    }

    private void ReadAll(byte[] root)
    {
        var work = new Queue<(byte[] Bytes, string Path, uint Cluster, uint Parent)>();
        work.Enqueue((root, "", 0, 0));
        while (work.TryDequeue(out (byte[] Bytes, string Path, uint Cluster, uint Parent) folder))
        {
            var names = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
            var parts = new List<byte[]>();
            bool ended = false;
            for (int at = 0; at < folder.Bytes.Length; at += 32)
            {
                byte[] entry = folder.Bytes[at..(at + 32)];
                ended |= entry[0] == 0;
                if (ended)
                {
                    Assert.True(entry.AsSpan().IndexOfAnyExcept((byte)0) < 0, "there is something behind the end");
                    continue;
                }

                uint cluster = (uint)BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(20)) << 16
                    | BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(26));
                string raw = Encoding.ASCII.GetString(entry, 0, 11);
                if ((entry[11] & 0x3f) == 0x0f)
                {
                    parts.Add(entry);
                }
                else if ((entry[11] & 0x08) != 0)
                {
                    Assert.Equal("", folder.Path);
                    Assert.Null(Label);
                    Label = raw;
                }
                else if (raw[0] == '.')
                {
                    Assert.Equal(at / 32, raw.TrimEnd().Length - 1);
                    Assert.Equal(at == 0 ? folder.Cluster : folder.Parent, cluster);
                }
                else
                {
                    string path = folder.Path + NameOf(entry, raw, parts, names);
                    parts.Clear();
                    bool isFolder = (entry[11] & 0x10) != 0;
                    long size = BinaryPrimitives.ReadUInt32LittleEndian(entry.AsSpan(28));
                    Assert.True(isFolder ? size == 0 && cluster != 0 : size == 0 == (cluster == 0), path);
                    byte[] content = isFolder ? Chain(cluster, null) : size == 0 ? [] : Chain(cluster, size);
                    Files.Add(new FatFile(
                        path, isFolder, isFolder ? [] : content, entry[11], raw,
                        BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(24)),
                        BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(22))));
                    if (isFolder)
                    {
                        work.Enqueue((content, path + "/", cluster, folder.Cluster));
                    }
                }
            }

            Assert.Empty(parts);
        }
    }

    private static string NameOf(byte[] entry, string raw, List<byte[]> parts, HashSet<string> names)
    {
        Assert.True(
            raw.All(c => char.IsAsciiLetterUpper(c) || char.IsAsciiDigit(c) || " $%'-_@~`!(){}^#&".Contains(c)), raw);
        string shown = ((entry[12] & 8) != 0 ? raw[..8].ToLowerInvariant() : raw[..8]).TrimEnd();
        string extension = ((entry[12] & 16) != 0 ? raw[8..].ToLowerInvariant() : raw[8..]).TrimEnd();
        string shortName = extension.Length > 0 ? $"{shown}.{extension}" : shown;
        Assert.True(names.Add(shortName), $"the name {shortName} is there twice");
        if (parts.Count == 0)
        {
            return shortName;
        }

        byte sum = 0;
        foreach (byte b in entry.AsSpan(0, 11))
        {
            sum = (byte)(((sum & 1) << 7) + (sum >> 1) + b);
        }

        var units = new StringBuilder();
        for (int i = 0; i < parts.Count; i++)
        {
            byte[] part = parts[parts.Count - 1 - i];
            Assert.Equal(i + 1 | (i == parts.Count - 1 ? 0x40 : 0), part[0]);
            Assert.Equal(sum, part[13]);
            Assert.Equal(0, part[12] | part[26] | part[27]);
            byte[] text = [.. part[1..11], .. part[14..26], .. part[28..32]];
            for (int k = 0; k < text.Length; k += 2)
            {
                units.Append((char)(text[k] | text[k + 1] << 8));
            }
        }

        string name = units.ToString();
        int end = name.IndexOf('\0');
        if (end >= 0)
        {
            Assert.True(name[(end + 1)..].All(c => c == '\uffff'), "a long name is not filled up");
            Assert.True(name.Length - end <= 13, "a long name has a part too many");
            name = name[..end];
        }

        Assert.InRange(name.Length, 1, 255);
        Assert.True(
            name.Equals(shortName, StringComparison.OrdinalIgnoreCase) || names.Add(name), $"{name} is there twice");
        return name;
    }

    private void CheckUnused()
    {
        for (uint cluster = 2; cluster < Clusters + 2; cluster++)
        {
            Assert.True(Entry(cluster) == 0 != _seen.Contains(cluster), $"cluster {cluster} is lost");
        }
    }
}
