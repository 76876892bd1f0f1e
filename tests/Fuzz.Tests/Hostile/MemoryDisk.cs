using ImageMount.Core.Block;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>A file in memory that may grow up to a limit, as a hostile image makes it grow on a full disk.</summary>
public sealed class MemoryDisk(byte[] bytes, long maxLength) : BlockDevice
{
    private readonly Lock _lock = new();
    private byte[] _bytes = bytes;
    private long _length = bytes.Length;

    public override long Length => _length;

    public override BlockCapabilities Capabilities => BlockCapabilities.Write | BlockCapabilities.Resize;

    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            int stored = (int)Math.Clamp(_bytes.Length - offset, 0, buffer.Length);
            _bytes.AsSpan((int)Math.Min(offset, _bytes.Length), stored).CopyTo(buffer.Span);
            buffer.Span[stored..].Clear();
        }

        return default;
    }

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            if (offset + buffer.Length > _bytes.Length)
            {
                Array.Resize(ref _bytes, (int)(offset + buffer.Length));
            }

            buffer.Span.CopyTo(_bytes.AsSpan((int)offset));
        }

        return default;
    }

    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (newLength > maxLength)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "no space left on the test's disk");
        }

        lock (_lock)
        {
            if (newLength < _bytes.Length)
            {
                Array.Resize(ref _bytes, (int)newLength);
            }

            _length = newLength;
        }

        return new(true);
    }
}
