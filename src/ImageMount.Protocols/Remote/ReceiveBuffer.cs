using ImageMount.Core.Memory;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// Reads a stream so that small things (headers, and answers that came with them) cost few system calls, while large
/// payloads go straight to where they belong. One reader at a time.
/// </summary>
internal sealed class ReceiveBuffer(Stream stream) : IDisposable
{
    /// <summary>Most bytes that <see cref="FillAsync"/> can be asked for.</summary>
    public const int Size = 16 << 10;

    private readonly BufferLease _lease = BufferPool.Shared.Rent(Size);
    private int _start;
    private int _end;
    private long _received;

    /// <summary>Bytes received so far; may be read by other threads.</summary>
    public long Received => Volatile.Read(ref _received);

    /// <summary>Has the next bytes ready for <see cref="Take"/>.</summary>
    public ValueTask FillAsync(int count, CancellationToken cancellationToken) =>
        _end - _start >= count ? default : FillSlowlyAsync(count, cancellationToken);

    /// <summary>The next bytes, which <see cref="FillAsync"/> made ready; valid until the next call.</summary>
    public ReadOnlySpan<byte> Take(int count)
    {
        ReadOnlySpan<byte> bytes = _lease.Span.Slice(_start, count);
        _start += count;
        return bytes;
    }

    /// <summary>Moves the next bytes to some memory.</summary>
    public async ValueTask ReadAsync(Memory<byte> target, CancellationToken cancellationToken)
    {
        int ready = Math.Min(_end - _start, target.Length);
        _lease.Span.Slice(_start, ready).CopyTo(target.Span);
        _start += ready;
        target = target[ready..];
        while (!target.IsEmpty)
        {
            target = target[await ReceiveAsync(target, cancellationToken).ConfigureAwait(false)..];
        }
    }

    /// <summary>Passes over the next bytes.</summary>
    public async ValueTask SkipAsync(long count, CancellationToken cancellationToken)
    {
        while (count > 0)
        {
            int step = (int)Math.Min(count, Size);
            await FillAsync(step, cancellationToken).ConfigureAwait(false);
            Take(step);
            count -= step;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _lease.Dispose();

    private async ValueTask FillSlowlyAsync(int count, CancellationToken cancellationToken)
    {
        _lease.Span[_start.._end].CopyTo(_lease.Span);
        _end -= _start;
        _start = 0;
        while (_end < count)
        {
            _end += await ReceiveAsync(_lease.Memory[_end..], cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask<int> ReceiveAsync(Memory<byte> target, CancellationToken cancellationToken)
    {
        int count = await stream.ReadAsync(target, cancellationToken).ConfigureAwait(false);
        if (count == 0)
        {
            throw new EndOfStreamException();
        }

        Volatile.Write(ref _received, _received + count);
        return count;
    }
}
