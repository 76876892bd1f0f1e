using System.Collections.Concurrent;
using System.Numerics;

namespace ImageMount.Core.Memory;

/// <summary>
/// Recycles <see cref="NativeBuffer"/>s in power-of-two sizes from 4 KiB to 64 MiB. What is kept is bounded in bytes;
/// a warm request rents and returns without allocating.
/// </summary>
public sealed class BufferPool
{
    private const int SmallestShift = 12;
    private const int LargestShift = 26;
    private readonly ConcurrentQueue<NativeBuffer>[] _classes = new ConcurrentQueue<NativeBuffer>[LargestShift - SmallestShift + 1];
    private readonly long _maxKept;
    private long _kept;

    /// <summary>Makes a pool.</summary>
    /// <param name="maxKeptBytes">Most bytes that idle buffers may hold together.</param>
    public BufferPool(long maxKeptBytes)
    {
        _maxKept = maxKeptBytes;
        for (int i = 0; i < _classes.Length; i++)
        {
            _classes[i] = new ConcurrentQueue<NativeBuffer>();
        }
    }

    /// <summary>The pool of the block layer: bounce buffers, clusters, inflated units.</summary>
    public static BufferPool Shared { get; } = new(16L << 20);

    /// <summary>Rents at least <paramref name="size"/> bytes, page-aligned. The content is undefined.</summary>
    public BufferLease Rent(int size)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(size);
        int shift = Math.Max(SmallestShift, 32 - BitOperations.LeadingZeroCount((uint)Math.Max(size - 1, 0)));
        if (shift > LargestShift)
        {
            return new BufferLease(new NativeBuffer(size), null, size);
        }

        if (_classes[shift - SmallestShift].TryDequeue(out NativeBuffer? buffer))
        {
            Interlocked.Add(ref _kept, -buffer.Size);
        }
        else
        {
            buffer = new NativeBuffer(1 << shift);
        }

#if DEBUG
        buffer.GetSpan().Fill(0xDB); // Whoever relies on fresh memory being zero finds out here.
#endif
        return new BufferLease(buffer, this, size);
    }

    internal void Return(NativeBuffer buffer)
    {
        if (Interlocked.Add(ref _kept, buffer.Size) > _maxKept)
        {
            Interlocked.Add(ref _kept, -buffer.Size);
            ((IDisposable)buffer).Dispose();
            return;
        }

#if DEBUG
        buffer.GetSpan().Fill(0xDD);
#endif
        _classes[BitOperations.Log2((uint)buffer.Size) - SmallestShift].Enqueue(buffer);
    }
}

/// <summary>A rented buffer; dispose it exactly once, when nothing can touch the memory any more.</summary>
public readonly struct BufferLease : IDisposable
{
    private readonly NativeBuffer _buffer;
    private readonly BufferPool? _pool;
    private readonly int _size;

    internal BufferLease(NativeBuffer buffer, BufferPool? pool, int size)
    {
        _buffer = buffer;
        _pool = pool;
        _size = size;
    }

    /// <summary>Exactly as many bytes as were asked for.</summary>
    public Memory<byte> Memory => _buffer.Memory[.._size];

    /// <summary>Exactly as many bytes as were asked for.</summary>
    public Span<byte> Span => _buffer.GetSpan()[.._size];

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_pool is null)
        {
            ((IDisposable)_buffer).Dispose();
        }
        else
        {
            _pool.Return(_buffer);
        }
    }
}
