using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Compressed;

/// <summary>
/// Reads a file from front to back through a buffer, for the pass that finds the units of a compressed file. Skipping
/// far does not read what is skipped.
/// </summary>
internal sealed class ForwardReader(BlockNode file, IProgress<OpenProgress>? progress = null) : IDisposable
{
    /// <summary>Most bytes that <see cref="FillAsync"/> can be asked for.</summary>
    public const int BufferSize = 512 << 10;

    private const long ReportEvery = 16 << 20;

    private readonly BufferLease _buffer = BufferPool.Shared.Rent(BufferSize);
    private int _start;
    private int _end;
    private long _reported;

    /// <summary>Offset in the file of the first byte at hand.</summary>
    public long Position { get; private set; }

    /// <summary>Bytes at hand.</summary>
    public ReadOnlySpan<byte> Bytes => _buffer.Span[_start.._end];

    /// <summary>True when what is at hand reaches to the end of the file.</summary>
    public bool IsLast => Position + (_end - _start) >= file.Length;

    /// <summary>
    /// Gets at least <paramref name="count"/> bytes to hand, or what the file still has. False: nothing is left.
    /// </summary>
    public async ValueTask<bool> FillAsync(int count, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (_end - _start < count && !IsLast)
        {
            Bytes.CopyTo(_buffer.Span);
            _end -= _start;
            _start = 0;
            int more = (int)Math.Min(BufferSize - _end, file.Length - Position - _end);
            await file.ReadAsync(Position + _end, _buffer.Memory.Slice(_end, more), cancellationToken)
                .ConfigureAwait(false);
            _end += more;
            Report();
        }

        return _end > _start;
    }

    /// <summary>Goes past bytes at hand or behind them.</summary>
    public void Skip(long count)
    {
        Position += count;
        if (count < _end - _start)
        {
            _start += (int)count;
        }
        else
        {
            _start = _end = 0;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _buffer.Dispose();

    private void Report()
    {
        if (progress is not null && Position - _reported >= ReportEvery)
        {
            _reported = Position;
            progress.Report(new OpenProgress(file.Name, "indexing", Position, file.Length));
        }
    }
}
