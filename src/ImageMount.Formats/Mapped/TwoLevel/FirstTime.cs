namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>Something that has to be done once before the first change of some kind, by whoever comes first.</summary>
/// <param name="action">What; tried again by the next one when it fails.</param>
internal sealed class FirstTime(Func<ValueTask> action)
{
    private readonly SemaphoreSlim _gate = new(1, 1);
    private volatile bool _isDone;

    /// <summary>True when nothing is left to do.</summary>
    public bool IsDone => _isDone;

    /// <summary>Completes when it is done.</summary>
    public ValueTask EnsureAsync() => _isDone ? default : RunAsync();

    private async ValueTask RunAsync()
    {
        await _gate.WaitAsync().ConfigureAwait(false);
        try
        {
            if (!_isDone)
            {
                await action().ConfigureAwait(false);
                _isDone = true;
            }
        }
        finally
        {
            _gate.Release();
        }
    }
}
