using ImageMount.Core.Block;

namespace ImageMount.Filters.Fault;

/// <summary>Makes requests fail by a rule, before they reach the disk below; for tests of what happens then.</summary>
public sealed class FaultDevice : FilterDevice
{
    private readonly FaultOptions _rule;
    private long _matched;
    private long _failed;

    /// <summary>Makes a filter with one rule.</summary>
    public FaultDevice(BlockNode file, FaultOptions rule)
        : base(file) => _rule = rule;

    /// <summary>How many requests have failed.</summary>
    public long Failed => Interlocked.Read(ref _failed);

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        Judge(FaultOperation.Read, offset, buffer.Length);
        return base.ReadAsync(offset, buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        Judge(FaultOperation.Write, offset, buffer.Length);
        return base.WriteAsync(offset, buffer, flags, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        Judge(FaultOperation.Zero, offset, count);
        return base.TryZeroAsync(offset, count, flags, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        Judge(FaultOperation.Discard, offset, count);
        return base.TryDiscardAsync(offset, count, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        Judge(FaultOperation.Flush, 0, long.MaxValue);
        return base.FlushAsync(cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        Judge(FaultOperation.Resize, 0, long.MaxValue);
        return base.TryResizeAsync(newLength, cancellationToken);
    }

    private void Judge(FaultOperation operation, long offset, long count)
    {
        bool matches = (_rule.Operation == FaultOperation.Any || _rule.Operation == operation)
            && (_rule.Size is null || offset - _rule.Offset < _rule.Size)
            && count > _rule.Offset - offset;
        if (!matches)
        {
            return;
        }

        long number = Interlocked.Increment(ref _matched) - 1;
        if (number < _rule.After || (_rule.Times > 0 && number >= _rule.After + _rule.Times))
        {
            return;
        }

        Interlocked.Increment(ref _failed);
        throw Failure(operation);
    }

    private BlockException Failure(FaultOperation operation)
    {
        string what = $"this {operation.ToString().ToLowerInvariant()} fails on purpose";
        (BlockErrorKind kind, int errno) = _rule.Error switch
        {
            // The numbers are Linux's (asm-generic/errno-base.h, errno.h), on every architecture that we run on.
            FaultError.Enospc => (BlockErrorKind.NoSpace, 28),
            FaultError.Edquot => (BlockErrorKind.NoSpace, 122),
            FaultError.Eacces => (BlockErrorKind.PermissionDenied, 13),
            FaultError.Etimedout => (BlockErrorKind.TimedOut, 110),
            _ => (BlockErrorKind.IoError, 5),
        };
        return new BlockException(kind, what) { Errno = errno };
    }
}
