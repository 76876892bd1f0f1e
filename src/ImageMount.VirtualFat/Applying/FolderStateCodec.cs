using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Applying;

/// <summary>A <see cref="FolderState"/> as bytes, for a journal that is kept.</summary>
internal static class FolderStateCodec
{
    private const int MaxName = 1024;

    /// <summary>Writes one.</summary>
    public static void Write(BinaryWriter writer, FolderState state)
    {
        var numbers = new Dictionary<FolderNode, int>(ReferenceEqualityComparer.Instance);
        writer.Write(state.ApplyId);
        writer.Write(state.Nodes.Count);
        foreach (FolderNode node in state.Nodes)
        {
            numbers.Add(node, numbers.Count);
            writer.Write(node.Parent is null ? -1 : numbers[node.Parent]);
            writer.Write(node.Name);
            writer.Write(node.HostName.Raw);
            writer.Write(node.IsFolder);
            writer.Write(node.FirstCluster);
            writer.Write(node.Size);
            writer.Write(node.Runs.Length);
            foreach (ClusterRun run in node.Runs)
            {
                writer.Write(run.First);
                writer.Write(run.Count);
            }

            writer.Write((byte)node.Attributes);
            FatTimestamps times = node.Times;
            writer.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<FatTimestamps>(in times)));
            writer.Write(node.Host.Inode);
            writer.Write(node.Host.Size);
            writer.Write(node.Host.ModifiedNs);
            writer.Write(node.Host.IsFolder);
            writer.Write(node.Host.ChangedNs);
        }
    }

    /// <summary>Reads one; everything in it is checked, though it is ours.</summary>
    /// <param name="reader">Where.</param>
    /// <param name="geometry">The volume that its clusters belong to.</param>
    /// <param name="damaged">Makes what is thrown.</param>
    public static FolderState Read(BinaryReader reader, VolumeGeometry geometry, Func<string, BlockException> damaged)
    {
        string applyId = reader.ReadString();
        int count = reader.ReadInt32();
        if (count is < 1 or > VolumeReader.MaxNodes)
        {
            throw damaged("it has an impossible number of files");
        }

        var nodes = new List<FolderNode>();
        for (int i = 0; i < count; i++)
        {
            FolderNode node = ReadNode(reader, nodes, geometry);
            bool isRoot = i == 0;
            if (isRoot ? node.Parent is not null || !node.IsFolder : node.Parent is not { IsFolder: true }
                || !node.HostName.IsName || node.Name.Length is 0 or > MaxName)
            {
                throw damaged("an entry of it is impossible");
            }

            nodes.Add(node);
        }

        return new FolderState(nodes, applyId);
    }

    private static FolderNode ReadNode(BinaryReader reader, List<FolderNode> nodes, VolumeGeometry geometry)
    {
        int parent = reader.ReadInt32();
        if (parent < -1 || parent >= nodes.Count)
        {
            throw new FormatException();
        }

        return new FolderNode
        {
            Parent = parent < 0 ? null : nodes[parent],
            Name = reader.ReadString(),
            HostName = new HostPath(reader.ReadString()),
            IsFolder = reader.ReadBoolean(),
            FirstCluster = reader.ReadUInt32(),
            Size = reader.ReadUInt32(),
            Runs = ReadRuns(reader, geometry),
            Attributes = (FatAttributes)reader.ReadByte(),
            Times = ReadTimes(reader),
            Host = new HostIdentity(reader.ReadUInt64(), reader.ReadInt64(), reader.ReadInt64(), reader.ReadBoolean())
            {
                ChangedNs = reader.ReadInt64(),
            },
        };
    }

    private static ClusterRun[] ReadRuns(BinaryReader reader, VolumeGeometry geometry)
    {
        int count = reader.ReadInt32();
        if (count < 0 || (uint)count > geometry.ClusterCount)
        {
            throw new FormatException();
        }

        var runs = new List<ClusterRun>();
        for (int i = 0; i < count; i++)
        {
            var run = new ClusterRun(reader.ReadUInt32(), reader.ReadUInt32());
            if (!geometry.IsCluster(run.First) || run.Count == 0 || run.Count > geometry.EndCluster - run.First)
            {
                throw new FormatException();
            }

            runs.Add(run);
        }

        return [.. runs];
    }

    private static FatTimestamps ReadTimes(BinaryReader reader)
    {
        FatTimestamps times = default;
        reader.BaseStream.ReadExactly(MemoryMarshal.AsBytes(new Span<FatTimestamps>(ref times)));
        return times;
    }

    /// <summary>True for what reading damaged bytes throws.</summary>
    public static bool IsDamage(Exception e) =>
        e is EndOfStreamException or FormatException or DecoderFallbackException;
}
