using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;
using ImageMount.VirtualFat.Plan;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Journal;

/// <summary>
/// What a journal keeps beside its blocks, as bytes: the plan, without which they mean nothing, and what disk and
/// folder had in common when the folder last followed. Guarded by the hash of <see cref="JournalFile"/>; what could
/// lead astray is checked nevertheless.
/// </summary>
internal static class PlanCodec
{
    private const int MaxName = 255;

    /// <summary>
    /// About how many bytes plan and state take, rather more: what a journal cannot hold is refused before anything is
    /// written.
    /// </summary>
    public static long EstimateSize(FatPlan plan)
    {
        const int Fixed = 256; // a record, and a node with one run
        long bytes = 0;
        for (int entry = 0; entry < plan.Table.Count; entry++)
        {
            bytes += Unsafe.SizeOf<EntryRecord>() + Fixed + 8 * plan.Table[entry].NameLength;
        }

        return bytes;
    }

    /// <summary>Writes plan and state.</summary>
    public static byte[] Write(FatPlan plan, FolderState state)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        FatGeometry geometry = plan.Geometry;
        writer.Write((byte)geometry.Type);
        writer.Write(geometry.SectorsPerCluster);
        writer.Write(geometry.ReservedSectors);
        writer.Write(geometry.FatCount);
        writer.Write(geometry.SectorsPerFat);
        writer.Write(geometry.RootEntries);
        writer.Write(geometry.ClusterCount);
        writer.Write(geometry.VolumeSectors);
        writer.Write(geometry.PartitionOffset);
        writer.Write(geometry.TotalBytes);
        writer.Write(geometry.Media);
        writer.Write(geometry.SectorsPerTrack);
        writer.Write(geometry.Heads);
        writer.Write(plan.Volume.Label is not null);
        WriteRaw(writer, plan.Volume.Label ?? default);
        writer.Write(plan.Volume.SerialNumber);
        writer.Write(plan.Volume.DiskId);
        WriteRaw(writer, plan.Volume.LabelTimes);
        writer.Write(Unsafe.SizeOf<EntryRecord>());
        writer.Write(plan.Table.Count);
        for (int entry = 0; entry < plan.Table.Count; entry++)
        {
            ReadOnlySpan<byte> name = plan.Table.HostNameOf(entry);
            bool isSame = EntryTable.TryDecode(name, out string text) && text == plan.Table.LongNameOf(entry);
            WriteRaw(writer, plan.Table[entry]);
            writer.Write((byte)name.Length);
            writer.Write(name);
            writer.Write(isSame ? "" : plan.Table.LongNameOf(entry));
        }

        writer.Write(plan.ChainCount);
        for (int chain = 0; chain < plan.ChainCount; chain++)
        {
            writer.Write(plan.OwnerOf(chain));
        }

        writer.Write(plan.UsedClusters);
        FolderStateCodec.Write(writer, state);
        writer.Flush();
        return stream.ToArray();
    }

    /// <summary>Reads the plan; the state is read when the plan's volume is known.</summary>
    /// <param name="bytes">What was written.</param>
    /// <param name="file">Where it comes from.</param>
    /// <param name="readState">Reads the state.</param>
    public static FatPlan Read(byte[] bytes, JournalFile file, out Func<VolumeGeometry, FolderState> readState)
    {
        var reader = new BinaryReader(new MemoryStream(bytes, writable: false), Encoding.UTF8);
        try
        {
            FatGeometry geometry = ReadGeometry(reader);
            VolumeIdentity volume = ReadIdentity(reader);
            EntryTable table = ReadTable(reader, file);
            int[] owners = ReadOwners(reader, table, file, out uint usedClusters);
            if (geometry.TotalBytes != file.DiskLength || usedClusters > geometry.ClusterCount)
            {
                throw file.Damaged("it belongs to another disk");
            }

            readState = volumeGeometry =>
                Guard(file, () => FolderStateCodec.Read(reader, volumeGeometry, file.Damaged));
            return new FatPlan(geometry, table, owners, usedClusters, volume);
        }
        catch (Exception e) when (FolderStateCodec.IsDamage(e))
        {
            throw file.Damaged("its plan is cut off");
        }
    }

    private static FolderState Guard(JournalFile file, Func<FolderState> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (FolderStateCodec.IsDamage(e))
        {
            throw file.Damaged("its state is cut off");
        }
    }

    private static FatGeometry ReadGeometry(BinaryReader reader)
    {
        var geometry = new FatGeometry
        {
            Type = (FatType)reader.ReadByte(),
            SectorsPerCluster = reader.ReadInt32(),
            ReservedSectors = reader.ReadInt32(),
            FatCount = reader.ReadInt32(),
            SectorsPerFat = reader.ReadInt64(),
            RootEntries = reader.ReadInt32(),
            ClusterCount = reader.ReadUInt32(),
            VolumeSectors = reader.ReadInt64(),
            PartitionOffset = reader.ReadInt64(),
            TotalBytes = reader.ReadInt64(),
            Media = reader.ReadByte(),
            SectorsPerTrack = reader.ReadInt32(),
            Heads = reader.ReadInt32(),
        };
        bool isPossible = geometry.Type is FatType.Fat12 or FatType.Fat16 or FatType.Fat32
            && geometry.SectorsPerCluster is >= 1 and <= 128 && geometry.ReservedSectors is >= 1 and <= ushort.MaxValue
            && geometry.FatCount is >= 1 and <= 4 && geometry.SectorsPerFat is >= 1 and <= uint.MaxValue
            && geometry.RootEntries is >= 0 and <= ushort.MaxValue && geometry.ClusterCount <= FatLayout.MaxClusters32
            && geometry.PartitionOffset >= 0 && geometry.TotalBytes <= VirtualFatOptions.MaxSize
            && geometry.DataEnd <= geometry.TotalBytes;
        return isPossible ? geometry : throw new FormatException();
    }

    private static VolumeIdentity ReadIdentity(BinaryReader reader)
    {
        bool hasLabel = reader.ReadBoolean();
        ShortName83 label = ReadRaw<ShortName83>(reader);
        return new VolumeIdentity(
            hasLabel ? label : null, reader.ReadUInt32(), reader.ReadUInt32(), ReadRaw<FatTimestamps>(reader));
    }

    private static EntryTable ReadTable(BinaryReader reader, JournalFile file)
    {
        if (reader.ReadInt32() != Unsafe.SizeOf<EntryRecord>())
        {
            throw file.Damaged("another version of imgmount made it");
        }

        int count = reader.ReadInt32();
        if (count is < 1 or > EntryTable.MaxEntries)
        {
            throw new FormatException();
        }

        var table = new EntryTable();
        for (int entry = 0; entry < count; entry++)
        {
            EntryRecord record = ReadRaw<EntryRecord>(reader);
            byte[] name = reader.ReadBytes(reader.ReadByte());
            string longName = reader.ReadString();
            bool isPossible = (entry == 0 ? record.Parent == 0 : record.Parent >= 0 && record.Parent < entry)
                && record.FirstChild >= 0 && record.ChildCount >= 0 && record.FirstChild <= count - record.ChildCount
                && longName.Length <= MaxName && (entry == 0) == (name.Length == 0);
            if (!isPossible)
            {
                throw new FormatException();
            }

            table.Add(record, name);
            if (longName.Length > 0)
            {
                table.Rename(entry, longName);
            }
        }

        return table;
    }

    private static int[] ReadOwners(BinaryReader reader, EntryTable table, JournalFile file, out uint usedClusters)
    {
        int count = reader.ReadInt32();
        if (count < 0 || count > table.Count)
        {
            throw new FormatException();
        }

        int[] owners = new int[count];
        for (int i = 0; i < count; i++)
        {
            owners[i] = reader.ReadInt32();
            if (owners[i] < 0 || owners[i] >= table.Count
                || table[owners[i]].FirstCluster <= (i == 0 ? 1 : table[owners[i - 1]].FirstCluster))
            {
                throw file.Damaged("its plan is out of order");
            }
        }

        usedClusters = reader.ReadUInt32();
        return owners;
    }

    private static void WriteRaw<T>(BinaryWriter writer, T value)
        where T : unmanaged => writer.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));

    private static T ReadRaw<T>(BinaryReader reader)
        where T : unmanaged
    {
        T value = default;
        reader.BaseStream.ReadExactly(MemoryMarshal.AsBytes(new Span<T>(ref value)));
        return value;
    }
}
