using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// What the last answer about block status said of the bytes behind those that were asked for, for whoever walks through
/// the disk: one question then answers many. Each extent is handed out once, in order, and any change forgets all.
/// </summary>
internal sealed class ExtentsAhead
{
    private readonly Lock _lock = new();
    private readonly Queue<BlockExtent> _ahead = new();
    private long _next;
    private long _version;

    /// <summary>Taken before a question is sent, for <see cref="Keep"/>.</summary>
    public long Version => Volatile.Read(ref _version);

    /// <summary>The extent that begins at an offset, if it is known.</summary>
    public bool TryTake(long offset, long count, out BlockExtent status)
    {
        lock (_lock)
        {
            if (offset != _next || !_ahead.TryDequeue(out status))
            {
                _ahead.Clear();
                status = default;
                return false;
            }

            _next += status.Length;
            if (status.Length > count)
            {
                _ahead.Clear(); // Whoever asks for less does not walk.
                status = status with { Length = count };
            }

            return true;
        }
    }

    /// <summary>Keeps all extents of an answer but the first, unless something changed since the question.</summary>
    public void Keep(long offset, ReadOnlySpan<BlockExtent> answer, long version)
    {
        lock (_lock)
        {
            _ahead.Clear();
            if (version != _version)
            {
                return;
            }

            _next = offset + answer[0].Length;
            foreach (BlockExtent status in answer[1..])
            {
                _ahead.Enqueue(status);
            }
        }
    }

    /// <summary>The disk changes, or has changed.</summary>
    public void Forget()
    {
        lock (_lock)
        {
            _version++;
            _ahead.Clear();
        }
    }
}
