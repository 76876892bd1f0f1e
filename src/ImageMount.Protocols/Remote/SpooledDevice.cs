using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// A file of a server that was read to its end into a temporary file (`spool=on`). The server is not needed any more.
/// </summary>
internal sealed class SpooledDevice : BlockDevice
{
    private readonly TemporaryFile _file = new(null);

    /// <summary>Bytes that were put in so far.</summary>
    public override long Length => _length;

    private long _length;

    /// <summary>Puts bytes in; anywhere, from any thread.</summary>
    public void Put(long offset, ReadOnlySpan<byte> bytes)
    {
        try
        {
            _file.Write(offset, bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed("written", e);
        }

        long end = offset + bytes.Length;
        for (long seen = Volatile.Read(ref _length); end > seen;)
        {
            seen = Interlocked.CompareExchange(ref _length, end, seen);
        }
    }

    /// <summary>Begins anew.</summary>
    public void Empty()
    {
        if (_length > 0 && !_file.TryRelease(0, _length))
        {
            throw new BlockException(BlockErrorKind.IoError, $"the file system of '{_file.Folder}' cannot give back space")
            {
                Hint = "Name another folder for temporary files with TMPDIR.",
            };
        }

        _length = 0;
    }

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        try
        {
            _file.Read(offset, buffer.Span);
            return default;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed("read", e);
        }
    }

    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        _file.Dispose();
        return default;
    }

    private BlockException Failed(string what, Exception e) => new(
        what == "read" ? BlockErrorKind.IoError : BlockErrorKind.NoSpace,
        $"the temporary file in '{_file.Folder}' cannot be {what}: {e.Message}", e)
    {
        Hint = "Name another folder for temporary files with TMPDIR.",
    };
}
