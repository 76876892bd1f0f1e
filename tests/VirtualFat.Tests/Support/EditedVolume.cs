using System.Buffers.Binary;
using System.Runtime.InteropServices;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>A volume in memory whose chains and directory entries are moved about so that it stays whole.</summary>
/// <param name="disk">The disk, which is one volume.</param>
/// <param name="random">Its seed is the caller's to tell.</param>
internal sealed class EditedVolume(byte[] disk, Random random)
{
    private const int EntrySize = 32;

    public byte[] Bytes { get; } = (byte[])disk.Clone();

    /// <summary>Sets an entry in all FATs; everything from the end of the numbers on ends a chain.</summary>
    public static void Set(byte[] bytes, VolumeGeometry at, uint cluster, uint value)
    {
        for (int copy = 0; copy < at.FatCount; copy++)
        {
            long fat = at.FatOffset + copy * at.FatLength;
            if (at.Type == FatType.Fat12)
            {
                Span<byte> pair = bytes.AsSpan((int)(fat + cluster * 3 / 2), 2);
                int old = BinaryPrimitives.ReadUInt16LittleEndian(pair);
                int now = cluster % 2 == 0 ? (old & 0xf000) | (int)(value & 0xfff) : (old & 0xf) | (int)(value & 0xfff) << 4;
                BinaryPrimitives.WriteUInt16LittleEndian(pair, (ushort)now);
            }
            else if (at.Type == FatType.Fat16)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan((int)(fat + cluster * 2)), (ushort)value);
            }
            else
            {
                BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan((int)(fat + cluster * 4)), value & 0x0fff_ffff);
            }
        }
    }

    public void EditOnce()
    {
        VolumeReading reading = new MemoryDisk(Bytes).ReadVolume();
        Assert.True(reading.IsConsistent, reading.Findings.ToString());
        VolumeTree tree = reading.Tree!;
        var used = new HashSet<uint>(tree.Nodes.SelectMany(Clusters));
        VolumeNode[] files = [.. tree.Nodes.Where(node => node.Runs.Length > 0 && !node.IsDirectory)];
        if (files.Length == 0)
        {
            return;
        }

        VolumeNode file = files[random.Next(files.Length)];
        List<uint> chain = [.. Clusters(file)];
        switch (random.Next(6))
        {
            case 0:
                Relocate(tree.Geometry, file, chain, Free(tree.Geometry, used, chain.Count));
                break;
            case 1:
                // The same clusters, the other way round.
                Relocate(tree.Geometry, file, chain, [.. Enumerable.Reverse(chain)]);
                break;
            case 2:
                Shorten(tree.Geometry, file, chain);
                break;
            case 3:
                Lengthen(tree.Geometry, file, chain, Free(tree.Geometry, used, random.Next(1, 4)));
                break;
            case 4:
                Remove(tree.Geometry, file, chain);
                break;
            default:
                ExchangeContents(file, files[random.Next(files.Length)]);
                break;
        }
    }

    /// <summary>A file in the root folder of FAT12 or FAT16 that has only a short name gets a long one.</summary>
    public void GiveLongName(string shortName, string name)
    {
        VolumeTree tree = new MemoryDisk(Bytes).ReadVolume().Tree!;
        int old = Find(tree.Nodes.Single(node => node.Name == shortName));
        byte[] entry = Bytes[old..(old + EntrySize)];
        Bytes[old] = 0xe5;
        int at = (int)tree.Geometry.RootOffset;
        while (Bytes[at] != 0)
        {
            at += EntrySize;
        }

        byte sum = 0;
        foreach (byte b in entry.AsSpan(0, 11))
        {
            sum = (byte)(((sum & 1) << 7) + (sum >> 1) + b);
        }

        int parts = (name.Length + 12) / 13;
        string padded = (name.Length % 13 == 0 ? name : name + "\0").PadRight(parts * 13, '\uffff');
        for (int part = parts; part > 0; part--, at += EntrySize)
        {
            Span<byte> slot = Bytes.AsSpan(at, EntrySize);
            slot.Clear();
            slot[0] = (byte)(part | (part == parts ? 0x40 : 0));
            slot[11] = 0x0f;
            slot[13] = sum;
            int[] places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
            for (int i = 0; i < places.Length; i++)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(slot[places[i]..], padded[(part - 1) * 13 + i]);
            }
        }

        entry[12] = 0;
        entry.CopyTo(Bytes, at);
    }

    private static IEnumerable<uint> Clusters(VolumeNode node) =>
        node.Runs.SelectMany(run => Enumerable.Range((int)run.First, (int)run.Count).Select(cluster => (uint)cluster));

    private List<uint> Free(VolumeGeometry at, HashSet<uint> used, int count)
    {
        var free = new List<uint>();
        while (free.Count < count)
        {
            uint cluster = 2 + (uint)random.Next((int)Math.Min(at.ClusterCount, 2000));
            if (used.Add(cluster))
            {
                free.Add(cluster);
            }
        }

        return free;
    }

    private void Relocate(VolumeGeometry at, VolumeNode file, List<uint> from, List<uint> to)
    {
        byte[][] contents = [.. from.Select(cluster => Cluster(at, cluster).ToArray())];
        Span<byte> entry = Entry(file);
        from.ForEach(cluster => Set(Bytes, at, cluster, 0));
        Link(at, to);
        for (int i = 0; i < to.Count; i++)
        {
            contents[i].CopyTo(Cluster(at, to[i]));
        }

        SetFirst(entry, to[0]);
    }

    private void Shorten(VolumeGeometry at, VolumeNode file, List<uint> chain)
    {
        uint size = (uint)random.NextInt64(1, file.Size + 1L);
        int keep = (int)at.ClustersFor(size);
        BinaryPrimitives.WriteUInt32LittleEndian(Entry(file)[28..], size);
        chain.Skip(keep).ToList().ForEach(cluster => Set(Bytes, at, cluster, 0));
        Link(at, chain[..keep]);
    }

    private void Lengthen(VolumeGeometry at, VolumeNode file, List<uint> chain, List<uint> more)
    {
        // What lies behind the end becomes a part of the file, whatever it is.
        more.ForEach(cluster => random.NextBytes(Cluster(at, cluster)));
        Link(at, [.. chain, .. more]);
        uint size = (uint)((chain.Count + more.Count) * at.ClusterSize - random.Next(at.ClusterSize));
        BinaryPrimitives.WriteUInt32LittleEndian(Entry(file)[28..], size);
    }

    private void Remove(VolumeGeometry at, VolumeNode file, List<uint> chain)
    {
        int entry = Find(file);
        int first = entry;
        bool isWhole = !IsPart(file);
        while (!isWhole && first % 512 > 0 && Bytes[first - EntrySize + 11] == 0x0f)
        {
            first -= EntrySize;
            isWhole = (Bytes[first] & 0x40) != 0;
        }

        if (!isWhole)
        {
            return; // Its name lies in several clusters.
        }

        chain.ForEach(cluster => Set(Bytes, at, cluster, 0));
        for (; first <= entry; first += EntrySize)
        {
            Bytes[first] = 0xe5;
        }
    }

    /// <summary>True for a file with a long name: what is shown is not what the short one says.</summary>
    private static bool IsPart(VolumeNode file) =>
        !file.Name.Equals(file.ShortName.ToString(), StringComparison.OrdinalIgnoreCase);

    /// <summary>Two entries take each other's chain, size and times: neither file is new, and neither is what it was.</summary>
    private void ExchangeContents(VolumeNode a, VolumeNode b)
    {
        Span<byte> one = Entry(a);
        Span<byte> two = Entry(b);
        byte[] kept = one[13..].ToArray();
        two[13..].CopyTo(one[13..]);
        kept.CopyTo(two[13..]);
    }

    private void Link(VolumeGeometry at, List<uint> chain)
    {
        for (int i = 0; i < chain.Count; i++)
        {
            Set(Bytes, at, chain[i], i + 1 < chain.Count ? chain[i + 1] : uint.MaxValue);
        }
    }

    private Span<byte> Cluster(VolumeGeometry at, uint cluster) => Bytes.AsSpan((int)at.OffsetOf(cluster), at.ClusterSize);

    private Span<byte> Entry(VolumeNode file) => Bytes.AsSpan(Find(file), EntrySize);

    /// <summary>The entry that leads to the first cluster of a file, wherever it is.</summary>
    private int Find(VolumeNode file)
    {
        ImageMount.VirtualFat.Names.ShortName83 shortName = file.ShortName;
        ReadOnlySpan<byte> name = MemoryMarshal.AsBytes(new ReadOnlySpan<ImageMount.VirtualFat.Names.ShortName83>(in shortName));
        for (int at = 0; at < Bytes.Length; at += EntrySize)
        {
            ReadOnlySpan<byte> entry = Bytes.AsSpan(at, EntrySize);
            if (entry.StartsWith(name) && (entry[11] & 0x18) == 0
                && (uint)(entry[26] | entry[27] << 8 | entry[20] << 16 | entry[21] << 24) == file.FirstCluster
                && BinaryPrimitives.ReadUInt32LittleEndian(entry[28..]) == file.Size)
            {
                return at;
            }
        }

        throw new InvalidOperationException($"'{file.Name}' has no entry");
    }

    private static void SetFirst(Span<byte> entry, uint cluster)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(entry[26..], (ushort)cluster);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[20..], (ushort)(cluster >> 16));
    }
}
