using System.Numerics;
using ImageMount.Core.Memory;

namespace ImageMount.Protocols.Remote;

/// <summary>What was changed.</summary>
internal enum ChangeKind
{
    /// <summary>Bytes were written.</summary>
    Data,

    /// <summary>Zeroed; space stays.</summary>
    Zero,

    /// <summary>Zeroed; space may be freed.</summary>
    ZeroMayUnmap,

    /// <summary>Discarded.</summary>
    Discard,
}

/// <summary>A change that the server has acknowledged and that is not flushed yet.</summary>
internal sealed class UnflushedWrite : IDisposable
{
    private readonly BufferLease? _lease;

    /// <summary>Copies the data.</summary>
    public UnflushedWrite(ChangeKind kind, ReadOnlySpan<byte> data)
    {
        Kind = kind;
        if (kind == ChangeKind.Data)
        {
            BufferLease lease = BufferPool.Shared.Rent(data.Length);
            data.CopyTo(lease.Span);
            _lease = lease;
        }
    }

    /// <summary>What was changed.</summary>
    public ChangeKind Kind { get; }

    /// <summary>First byte.</summary>
    public long Offset { get; private set; }

    /// <summary>Bytes.</summary>
    public long Count { get; private set; }

    /// <summary>What was written; empty for other kinds.</summary>
    public ReadOnlyMemory<byte> Data => _lease?.Memory ?? ReadOnlyMemory<byte>.Empty;

    /// <summary>Memory that it takes, bytes.</summary>
    public long Cost => Kind == ChangeKind.Data
        ? Math.Max(4096, (long)BitOperations.RoundUpToPowerOf2((ulong)Data.Length))
        : 128;

    /// <summary>Says where it is.</summary>
    public void Place(long offset, long count)
    {
        Offset = offset;
        Count = count;
    }

    /// <inheritdoc/>
    public void Dispose() => _lease?.Dispose();
}
