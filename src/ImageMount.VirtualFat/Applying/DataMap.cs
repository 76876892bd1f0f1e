using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Applying;

/// <summary>Which file of the host has the bytes of a cluster, and where.</summary>
/// <param name="First">First cluster of the piece.</param>
/// <param name="Count">Clusters.</param>
/// <param name="Node">The file.</param>
/// <param name="FileOffset">Where the piece begins in it.</param>
internal readonly record struct DataPiece(uint First, uint Count, FolderNode Node, long FileOffset);

/// <summary>From clusters to files of the host, as of a <see cref="FolderState"/>. Immutable.</summary>
internal sealed class DataMap
{
    private readonly DataPiece[] _pieces;
    private readonly uint[] _firsts;

    /// <summary>Makes the map of a state.</summary>
    public DataMap(FolderState state, int clusterSize)
    {
        var pieces = new List<DataPiece>(state.Nodes.Count);
        foreach (FolderNode node in state.Nodes)
        {
            long offset = 0;
            foreach (ClusterRun run in node.IsFolder ? [] : node.Runs)
            {
                pieces.Add(new DataPiece(run.First, run.Count, node, offset));
                offset += (long)run.Count * clusterSize;
            }
        }

        pieces.Sort((a, b) => a.First.CompareTo(b.First));
        _pieces = [.. pieces];
        _firsts = [.. pieces.Select(piece => piece.First)];
    }

    /// <summary>The piece that a cluster belongs to. False: it belongs to no file; next is the first cluster that
    /// does.</summary>
    public bool TryFind(uint cluster, out DataPiece piece, out uint next)
    {
        int at = Array.BinarySearch(_firsts, cluster);
        at = at < 0 ? ~at - 1 : at;
        if (at >= 0 && cluster - _pieces[at].First < _pieces[at].Count)
        {
            piece = _pieces[at];
            next = piece.First + piece.Count;
            return true;
        }

        piece = default;
        next = at + 1 < _firsts.Length ? _firsts[at + 1] : uint.MaxValue;
        return false;
    }
}
