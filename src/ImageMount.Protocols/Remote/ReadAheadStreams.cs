namespace ImageMount.Protocols.Remote;

/// <summary>
/// Recognises readers that go through the disk in order, from the requests alone, and says how far to read ahead of them.
/// Not thread-safe: <see cref="RangeReader"/> holds its lock.
/// </summary>
/// <remarks>
/// Where requests go on from one another (in some disorder, as the kernel sends read-ahead from several threads), the
/// window doubles with each, from the second on. Random readers never get one: the tolerance is small beside a disk.
/// </remarks>
/// <param name="maxWindow">How far to read ahead at most, bytes; may change between reads.</param>
internal sealed class ReadAheadStreams(Func<long> maxWindow)
{
    private const int Count = 8;
    private const int LeastDisorder = 64 << 10;
    private readonly Stream[] _streams = new Stream[Count];
    private int _oldest;

    /// <summary>Takes note of a read. The answer is up to where it is worth reading ahead, or 0.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="count">Bytes.</param>
    /// <param name="from">Where reading ahead goes on: what is before was read, or asked for, already.</param>
    public long Watch(long offset, int count, out long from)
    {
        int index = Find(offset, count);
        ref Stream stream = ref _streams[index];
        stream.Reads = Math.Min(stream.Reads + 1, 32);
        stream.Next = Math.Max(stream.Next, offset + count);
        stream.Planned = Math.Max(stream.Planned, stream.Next);
        from = stream.Planned;
        if (stream.Reads < 2)
        {
            return 0;
        }

        long window = Math.Min(maxWindow(), (long)Math.Max(count, 4096) << Math.Min(stream.Reads + 1, 20));
        long target = stream.Next + window;

        // In strides of a quarter of the window: planning again for every small read would cost more than it gives.
        if (target - stream.Planned < window / 4)
        {
            return 0;
        }

        stream.Planned = target;
        return target;
    }

    /// <summary>What was planned from here on did not happen; it is planned again.</summary>
    public void Forget(long from)
    {
        for (int i = 0; i < Count; i++)
        {
            _streams[i].Planned = Math.Min(_streams[i].Planned, Math.Max(from, _streams[i].Next));
        }
    }

    private int Find(long offset, int count)
    {
        long disorder = LeastDisorder + (2L * count);
        for (int i = 0; i < Count; i++)
        {
            ref Stream stream = ref _streams[i];
            if (stream.Reads > 0 && offset >= stream.Next - disorder && offset <= stream.Next + disorder)
            {
                return i;
            }
        }

        _oldest = (_oldest + 1) % Count;
        _streams[_oldest] = new Stream { Next = offset, Planned = offset };
        return _oldest;
    }

    private struct Stream
    {
        /// <summary>First byte that was not read yet.</summary>
        public long Next;

        /// <summary>Bytes before this were asked for.</summary>
        public long Planned;

        /// <summary>Reads that went on from one another; 0: the place is free.</summary>
        public int Reads;
    }
}
