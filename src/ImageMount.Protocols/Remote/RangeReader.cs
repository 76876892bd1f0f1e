using ImageMount.Core.Memory;

namespace ImageMount.Protocols.Remote;

/// <summary>Fills memory with the bytes at an offset, from the server. May be called any number of times at once.</summary>
internal delegate ValueTask FetchRange(long offset, Memory<byte> buffer, CancellationToken cancellationToken);

/// <summary>
/// Makes a slow source fast for readers: large reads are split and fetched in parallel, and readers that go through the
/// disk in order find the next blocks fetched already. Random reads go straight through.
/// </summary>
/// <remarks>
/// Blocks that were read ahead are kept until they are read to the end, pushed out, or written over. A device that can be
/// written calls <see cref="Invalidate"/> before it sends a change and again after the answer: a block that was fetched
/// in between may hold either, so it must not stay. Depth: what is fetched ahead is bounded by the window; the source
/// bounds what it really sends at once.
/// </remarks>
internal sealed class RangeReader
{
    private readonly FetchRange _fetch;
    private readonly RangeReaderOptions _options;
    private readonly Func<long> _length;
    private readonly Lock _lock = new();
    private readonly Dictionary<long, Block> _blocks = [];
    private readonly ReadAheadStreams _streams;
    private readonly CancellationTokenSource _stop = new();
    private readonly int _capacity;
    private long _age;
    private int _fetching;
    private TaskCompletionSource? _idle;

    /// <summary>A reader without anything read ahead.</summary>
    /// <param name="fetch">The source.</param>
    /// <param name="length">Length of the source, bytes.</param>
    /// <param name="options">Sizes.</param>
    public RangeReader(FetchRange fetch, Func<long> length, RangeReaderOptions options)
    {
        _fetch = fetch;
        _length = length;
        _options = options;
        _capacity = (int)Math.Max(2, options.MaxBytes / options.BlockSize);
        long most = Math.Min(options.Window, options.MaxBytes / 2);
        _streams = new ReadAheadStreams(
            () => options.IsNear?.Invoke() == true ? Math.Min(most, options.NearWindow) : most);
    }

    /// <summary>Fills the buffer.</summary>
    public ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        List<Block>? ahead;
        Block? hit = null;
        bool isPlain;
        lock (_lock)
        {
            ahead = Plan(offset, buffer.Length);
            long last = (offset + buffer.Length - 1) / _options.BlockSize;
            Block? first = _blocks.GetValueOrDefault(offset / _options.BlockSize);
            if (first is { IsReady: true } && last == first.Index)
            {
                hit = first;
                hit.Users++;
            }

            isPlain = first is null && buffer.Length <= _options.SplitSize && !_blocks.ContainsKey(last);
        }

        if (hit is not null)
        {
            Copy(hit, offset, buffer.Span);
            Start(ahead);
            return default;
        }

        ValueTask task = isPlain
            ? _fetch(offset, buffer, cancellationToken)
            : ReadPartsAsync(offset, buffer, cancellationToken);
        Start(ahead);
        return task;
    }

    /// <summary>Forgets what was read ahead of a range, now that it changes or has changed.</summary>
    public void Invalidate(long offset, long count)
    {
        lock (_lock)
        {
            if (_blocks.Count == 0)
            {
                return;
            }

            foreach (Block block in _blocks.Values.Where(
                block => block.Offset < offset + count && offset < block.Offset + block.Length).ToArray())
            {
                Drop(block);
                _streams.Forget(block.Offset);
            }
        }
    }

    /// <summary>Stops reading ahead; completes when nothing is under way. The source fails or ends what is.</summary>
    public async ValueTask StopAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        Task idle = Task.CompletedTask;
        lock (_lock)
        {
            if (_fetching > 0)
            {
                _idle = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                idle = _idle.Task;
            }
        }

        await idle.ConfigureAwait(false);
        lock (_lock)
        {
            foreach (Block block in _blocks.Values.ToArray())
            {
                Drop(block);
            }
        }
    }

    /// <summary>Under the lock: notes the read, and makes the blocks that are worth fetching ahead of it.</summary>
    private List<Block>? Plan(long offset, int count)
    {
        long target = Math.Min(_streams.Watch(offset, count, out long from), _length());
        if (target <= from || _stop.IsCancellationRequested || _options.Window == 0)
        {
            return null;
        }

        List<Block>? made = null;
        for (long index = from / _options.BlockSize; index * _options.BlockSize < target; index++)
        {
            if (_blocks.ContainsKey(index))
            {
                continue;
            }

            if (_blocks.Count >= _capacity && !TryEvict())
            {
                _streams.Forget(index * _options.BlockSize);
                break;
            }

            long start = index * _options.BlockSize;
            int length = (int)Math.Min(_options.BlockSize, _length() - start);
            var block = new Block(index, start, length, BufferPool.Shared.Rent(length), ++_age);
            _blocks.Add(index, block);
            _fetching++;
            (made ??= []).Add(block);
        }

        return made;
    }

    /// <summary>Under the lock: gives up the oldest block that is not being fetched.</summary>
    private bool TryEvict()
    {
        Block? oldest = null;
        foreach (Block block in _blocks.Values)
        {
            if (block.IsReady && (oldest is null || block.Age < oldest.Age))
            {
                oldest = block;
            }
        }

        if (oldest is not null)
        {
            Drop(oldest);
        }

        return oldest is not null;
    }

    private void Start(List<Block>? blocks)
    {
        foreach (Block block in blocks ?? [])
        {
            _ = FetchAsync(block);
        }
    }

    private async Task FetchAsync(Block block)
    {
        bool isRead = false;
        try
        {
            await _fetch(block.Offset, block.Lease.Memory, _stop.Token).ConfigureAwait(false);
            isRead = true;
        }
        catch (Exception)
        {
            // Whoever wants these bytes asks for them again, and gets the error that is true then.
            isRead = false;
        }
        finally
        {
            TaskCompletionSource? idle = null;
            lock (_lock)
            {
                block.IsReady = isRead;
                if (!isRead)
                {
                    Drop(block);
                }

                Release(block);
                if (--_fetching == 0)
                {
                    idle = _idle;
                }
            }

            idle?.TrySetResult();
            block.Done.SetResult(isRead);
        }
    }

    /// <summary>
    /// A read that is long, or finds blocks. Completes when nothing can touch the buffer any more, whatever fails.
    /// </summary>
    private async ValueTask ReadPartsAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var tasks = new List<Task>();
        long end = offset + buffer.Length;
        for (long at = offset; at < end;)
        {
            Block? block;
            long stop;
            lock (_lock)
            {
                block = _blocks.GetValueOrDefault(at / _options.BlockSize);
                if (block is not null)
                {
                    block.Users++;
                    stop = block.Offset + block.Length;
                }
                else
                {
                    // To the next block that is there, or as much as goes in one request.
                    stop = (at / _options.BlockSize + 1) * _options.BlockSize;
                    while (stop < end && stop - at < _options.SplitSize
                        && !_blocks.ContainsKey(stop / _options.BlockSize))
                    {
                        stop += _options.BlockSize;
                    }

                    stop = Math.Min(stop, at + _options.SplitSize);
                }
            }

            stop = Math.Min(stop, end);
            Memory<byte> part = buffer[(int)(at - offset)..(int)(stop - offset)];
            if (block is null)
            {
                tasks.Add(_fetch(at, part, cancellationToken).AsTask());
            }
            else if (block.IsReady)
            {
                Copy(block, at, part.Span);
            }
            else
            {
                tasks.Add(ReadBlockAsync(block, at, part, cancellationToken));
            }

            at = stop;
        }

        await Task.WhenAll(tasks).ConfigureAwait(false);
    }

    private async Task ReadBlockAsync(Block block, long at, Memory<byte> part, CancellationToken cancellationToken)
    {
        bool isRead;
        try
        {
            isRead = await block.Done.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            lock (_lock)
            {
                Release(block);
            }

            throw;
        }

        if (isRead)
        {
            Copy(block, at, part.Span);
            return;
        }

        lock (_lock)
        {
            Release(block);
        }

        await _fetch(at, part, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Takes bytes out of a block that the caller has counted itself in, and counts it out.</summary>
    private void Copy(Block block, long at, Span<byte> part)
    {
        block.Lease.Span.Slice((int)(at - block.Offset), part.Length).CopyTo(part);
        lock (_lock)
        {
            block.Consumed += part.Length;
            if (block.Consumed >= block.Length)
            {
                Drop(block); // Read to its end: the reader's own cache has it now.
            }

            Release(block);
        }
    }

    /// <summary>Under the lock: out of the cache; its memory goes when the last user has gone.</summary>
    private void Drop(Block block)
    {
        if (_blocks.GetValueOrDefault(block.Index) == block)
        {
            _blocks.Remove(block.Index);
            Release(block);
        }
    }

    private static void Release(Block block)
    {
        if (--block.Users == 0)
        {
            block.Lease.Dispose();
        }
    }

    /// <summary>Bytes that were read ahead, or are being read. All but the fixed facts under the reader's lock.</summary>
    private sealed class Block(long index, long offset, int length, BufferLease lease, long age)
    {
        public long Index { get; } = index;

        public long Offset { get; } = offset;

        public int Length { get; } = length;

        public BufferLease Lease { get; } = lease;

        public long Age { get; } = age;

        /// <summary>
        /// True when it was read; false when whoever waits has to fetch by itself. They go on where the fetch ended, which
        /// has nothing left to do: handing them to another thread would cost a wake-up for every block.
        /// </summary>
        public TaskCompletionSource<bool> Done { get; } = new();

        /// <summary>Set before <see cref="Done"/>, under the lock.</summary>
        public volatile bool IsReady;

        /// <summary>The cache, the fetch, and readers.</summary>
        public int Users = 2;

        public long Consumed;
    }
}

/// <summary>Sizes of a <see cref="RangeReader"/>, bytes.</summary>
internal sealed record RangeReaderOptions
{
    /// <summary>What is read ahead at once.</summary>
    public int BlockSize { get; init; } = 256 << 10;

    /// <summary>Largest single request; longer reads are split.</summary>
    public int SplitSize { get; init; } = 1 << 20;

    /// <summary>How far ahead of a reader; 0 turns reading ahead off.</summary>
    public long Window { get; init; } = 8 << 20;

    /// <summary>How far ahead at most while <see cref="IsNear"/>.</summary>
    public long NearWindow { get; init; } = 2 << 20;

    /// <summary>
    /// Whether the source answers so soon that many requests at once bring nothing but work: each piece that comes wakes
    /// somebody, and the fewer there are, the larger they are. Null: never.
    /// </summary>
    public Func<bool>? IsNear { get; init; }

    /// <summary>Memory for what was read ahead.</summary>
    public long MaxBytes { get; init; } = 16 << 20;
}
