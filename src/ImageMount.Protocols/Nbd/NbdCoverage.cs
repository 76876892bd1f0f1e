namespace ImageMount.Protocols.Nbd;

/// <summary>
/// Which bytes of a read its chunks have filled: chunks may come in any order, but never overlap, and in the end nothing
/// may be missing. In order, as servers really send them, it is one number.
/// </summary>
internal sealed class NbdCoverage
{
    private const int MaxGaps = 1024;
    private readonly List<(long Start, long End)> _later = [];
    private long _filled;

    /// <summary>Nothing is filled.</summary>
    public void Clear()
    {
        _filled = 0;
        _later.Clear();
    }

    /// <summary>Takes note of a chunk; false when it overlaps another, or there are too many pieces.</summary>
    /// <param name="start">Its first byte, from the start of the request.</param>
    /// <param name="length">Bytes, at least 1.</param>
    public bool TryAdd(long start, long length)
    {
        long end = start + length;
        if (start < _filled || _later.Exists(range => range.Start < end && start < range.End))
        {
            return false;
        }

        if (start > _filled)
        {
            _later.Add((start, end));
            return _later.Count <= MaxGaps;
        }

        _filled = end;
        while (_later.FindIndex(range => range.Start == _filled) is >= 0 and var next)
        {
            _filled = _later[next].End;
            _later.RemoveAt(next);
        }

        return true;
    }

    /// <summary>True when every byte of a request was filled.</summary>
    public bool IsWhole(long length) => _filled == length && _later.Count == 0;
}
