using ImageMount.Core.Block;

namespace ImageMount.Filters.Delay;

/// <summary>
/// Delays requests before they reach the disk below, without holding a thread: a slow disk, or a way to make every
/// layer above really suspend. The clock is given, so that a test decides when time passes.
/// </summary>
public sealed class DelayDevice : FilterDevice
{
    private readonly DelayOptions _delays;
    private readonly TimeProvider _clock;

    /// <summary>Makes a filter.</summary>
    public DelayDevice(BlockNode file, DelayOptions delays, TimeProvider clock)
        : base(file)
    {
        _delays = delays;
        _clock = clock;
    }

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await WaitAsync(_delays.Read, cancellationToken).ConfigureAwait(false);
        await base.ReadAsync(offset, buffer, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        await WaitAsync(_delays.Write, cancellationToken).ConfigureAwait(false);
        await base.WriteAsync(offset, buffer, flags, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        await WaitAsync(_delays.Write, cancellationToken).ConfigureAwait(false);
        return await base.TryZeroAsync(offset, count, flags, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(
        long offset, long count, CancellationToken cancellationToken)
    {
        await WaitAsync(_delays.Write, cancellationToken).ConfigureAwait(false);
        return await base.TryDiscardAsync(offset, count, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        await WaitAsync(_delays.Flush, cancellationToken).ConfigureAwait(false);
        await base.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask WaitAsync(int milliseconds, CancellationToken cancellationToken)
    {
        if (milliseconds == 0)
        {
            return;
        }

        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(milliseconds), _clock, cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException e)
        {
            throw new BlockException(BlockErrorKind.Cancelled, "the request was cancelled while it was delayed", e);
        }
    }
}
