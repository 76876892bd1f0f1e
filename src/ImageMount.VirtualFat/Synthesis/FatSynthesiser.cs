using ImageMount.Core.Block;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Plan;

namespace ImageMount.VirtualFat.Synthesis;

/// <summary>
/// The disk of a plan, as it was planned and without anything written to it: every byte is computed or read from the host
/// when it is asked for. What stands at an offset is decided in one place (<see cref="PieceAt"/>), from which both
/// reading and block status come.
/// </summary>
/// <remarks>
/// Any number of threads may use it. Requests lie within the disk. It completes synchronously: the host's files are local
/// system calls.
/// </remarks>
internal sealed class FatSynthesiser : IDisposable
{
    private readonly FatGeometry _geometry;
    private readonly HostFolder _host;
    private readonly HostFiles _files;
    private readonly FatTable _fat;
    private readonly DirectoryTable _directories;
    private readonly byte[] _partitionTable;
    private readonly byte[] _boot;

    /// <summary>Takes over the folder.</summary>
    /// <param name="host">The folder that was planned.</param>
    /// <param name="plan">The plan.</param>
    /// <param name="warn">Told of files that changed since.</param>
    public FatSynthesiser(HostFolder host, FatPlan plan, Action<string> warn)
    {
        Plan = plan;
        _geometry = plan.Geometry;
        _host = host;
        _files = new HostFiles(host, plan, warn);
        _fat = new FatTable(plan);
        _directories = new DirectoryTable(plan);
        _partitionTable = plan.Geometry.IsPartitioned ? ReservedArea.MakePartitionTable(plan) : [];
        _boot = ReservedArea.MakeBootSectors(plan);
    }

    /// <summary>The plan.</summary>
    public FatPlan Plan { get; }

    /// <summary>The folder.</summary>
    public HostFolder Host => _host;

    private enum Source
    {
        Zero,
        PartitionTable,
        Boot,
        Fat,
        Directory,
        File,
    }

    /// <summary>Fills the buffer with the bytes at <paramref name="offset"/>.</summary>
    public ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        Read(offset, buffer.Span, cancellationToken);
        return default;
    }

    /// <summary>The state of the first bytes of a range; never more than <paramref name="count"/>.</summary>
    public ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        Piece piece = PieceAt(offset);
        long length = Math.Min(count, piece.Length);
        return new(piece.Source switch
        {
            Source.Zero => Extents.Zero(length),
            Source.File => _files.Map(piece.Entry, piece.Offset, length),
            _ => Extents.Data(length),
        });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _files.Dispose();
        _host.Dispose();
    }

    private void Read(long offset, Span<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            if (cancellationToken.IsCancellationRequested)
            {
                throw new BlockException(BlockErrorKind.Cancelled, "the read was cancelled");
            }

            Piece piece = PieceAt(offset);
            Span<byte> part = buffer[..(int)Math.Min(buffer.Length, piece.Length)];
            switch (piece.Source)
            {
                case Source.PartitionTable:
                    _partitionTable.AsSpan((int)piece.Offset, part.Length).CopyTo(part);
                    break;
                case Source.Boot:
                    _boot.AsSpan((int)piece.Offset, part.Length).CopyTo(part);
                    break;
                case Source.Fat:
                    _fat.Read(piece.Offset, part);
                    break;
                case Source.Directory:
                    _directories.Get(piece.Entry).AsSpan((int)piece.Offset, part.Length).CopyTo(part);
                    break;
                case Source.File:
                    _files.Read(piece.Entry, piece.Offset, part);
                    break;
                default:
                    part.Clear();
                    break;
            }

            offset += part.Length;
            buffer = buffer[part.Length..];
        }
    }

    /// <summary>What begins at an offset of the disk, and how far it reaches.</summary>
    private Piece PieceAt(long offset)
    {
        if (offset < _geometry.PartitionOffset)
        {
            return Within(Source.PartitionTable, 0, offset, _partitionTable.Length, _geometry.PartitionOffset);
        }

        long fatStart = _geometry.FatOffset(0);
        if (offset < fatStart)
        {
            long start = _geometry.PartitionOffset;
            return Within(Source.Boot, 0, offset - start, _boot.Length, fatStart - start);
        }

        if (offset < _geometry.RootOffset)
        {
            return Within(Source.Fat, 0, (offset - fatStart) % _geometry.FatSize, _fat.UsedBytes, _geometry.FatSize);
        }

        if (offset < _geometry.DataOffset)
        {
            long start = _geometry.RootOffset;
            return Within(
                Source.Directory, 0, offset - start, Plan.Table[0].Size, _geometry.DataOffset - start);
        }

        if (!_geometry.TryGetCluster(offset, out uint cluster) || !Plan.TryFindChain(cluster, out int chain))
        {
            // Free, up to the end of the disk: clusters in use come before all others.
            return new Piece(Source.Zero, 0, 0, _geometry.TotalBytes - offset);
        }

        int entry = Plan.OwnerOf(chain);
        bool isFolder = (Plan.Table[entry].Attributes & FatAttributes.Directory) != 0;
        long first = _geometry.ClusterOffset(Plan.StartOf(chain));
        long size = (long)(Plan.EndOf(chain) - Plan.StartOf(chain)) * _geometry.ClusterSize;
        return Within(
            isFolder ? Source.Directory : Source.File, entry, offset - first, Plan.Table[entry].Size, size);
    }

    /// <summary>A place in something of which only the first bytes are not zero.</summary>
    private static Piece Within(Source source, int entry, long at, long used, long size) => at < used
        ? new Piece(source, entry, at, used - at)
        : new Piece(Source.Zero, 0, 0, size - at);

    private readonly record struct Piece(Source Source, int Entry, long Offset, long Length);
}
