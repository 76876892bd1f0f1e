using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Files;

/// <summary>
/// Which ranges of a file hold data, from SEEK_DATA and SEEK_HOLE.
/// </summary>
/// <remarks>
/// Finding the end of an extent may walk over many extents of the file system, so the last answer is kept: a caller
/// who asks for a large extent in small steps would otherwise cost the square of its size. An answer that is kept must
/// not outlive a write into it. Whoever changes the file calls <see cref="NoteChange"/> afterwards, which costs nothing
/// while there is no answer: the sequence "watch, ask the kernel, keep unless something changed" makes sure that a
/// change is seen either by the question or by the answer's keeper.
/// </remarks>
/// <param name="seek">lseek(2) on the file: offset and whence in, offset or -errno out.</param>
internal sealed class FileHoles(Func<long, int, long> seek)
{
    private readonly Lock _lock = new();
    private long _changes;
    private bool _watching;
    private bool _neverKeep;
    private Range _kept;
    private volatile bool _unsupported;

    /// <summary>The holes of an open file.</summary>
    public FileHoles(int fd)
        : this((offset, whence) => SysLseek.Seek(fd, offset, whence))
    {
    }

    /// <summary>True when the kernel answers at all for this file.</summary>
    public static bool IsSupported(int fd)
    {
        // An empty file has no byte to ask about: ENXIO.
        long result = SysLseek.Seek(fd, 0, SysLseek.SEEK_HOLE);
        return result >= 0 || result == -Errno.ENXIO;
    }

    /// <summary>Keep no answers any more: somebody else can write the file without telling us.</summary>
    public void StopKeeping()
    {
        lock (_lock)
        {
            _neverKeep = true;
            _kept = default;
        }
    }

    /// <summary>To be called after every change of content or size, before it is reported as done.</summary>
    public void NoteChange()
    {
        Interlocked.MemoryBarrier(); // The change itself must not be overtaken by the look at the flag.
        if (Volatile.Read(ref _watching))
        {
            Forget();
        }
    }

    /// <summary>The state of the first bytes of a range, at most <paramref name="count"/>.</summary>
    public BlockExtent Map(long offset, long count)
    {
        long changes;
        lock (_lock)
        {
            if (offset >= _kept.From && offset < _kept.End)
            {
                return Answer(_kept, offset, count);
            }

            changes = _changes;
            _watching = !_neverKeep;
        }

        Range found = Ask(offset, count);
        lock (_lock)
        {
            if (changes == _changes && !_neverKeep)
            {
                _kept = found;
            }
        }

        return Answer(found, offset, count);
    }

    private static BlockExtent Answer(Range range, long offset, long count) =>
        new(
            Math.Min(count, range.End - offset),
            ExtentFlags.Present | (range.IsData ? ExtentFlags.Data : ExtentFlags.Zero));

    private void Forget()
    {
        lock (_lock)
        {
            _changes++;
            _kept = default;
            _watching = false;
        }
    }

    private Range Ask(long offset, long count)
    {
        var all = new Range(offset, offset + count, true);
        if (_unsupported)
        {
            return all;
        }

        long data = seek(offset, SysLseek.SEEK_DATA);
        if (data == -Errno.ENXIO)
        {
            // No data up to the end of the file. The disk ends there too, unless somebody shortened the file; what
            // lies beyond is for reading to complain about.
            return new Range(offset, long.MaxValue, false);
        }

        if (data < 0)
        {
            // Knowing nothing is not a failure of the disk: reading tells the truth.
            _unsupported = true;
            return all;
        }

        if (data > offset)
        {
            return new Range(offset, data, false);
        }

        long hole = seek(offset, SysLseek.SEEK_HOLE);

        // Not past the offset: a hole was punched between the two questions. "Data" was true a moment ago.
        return hole > offset ? new Range(offset, hole, true) : all;
    }

    private readonly record struct Range(long From, long End, bool IsData);
}
