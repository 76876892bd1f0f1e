using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed;

/// <summary>A <see cref="TemporaryFile"/> for unpacked data, with the errors of a disk.</summary>
internal sealed class SpoolFile(string? directory) : IDisposable
{
    private readonly TemporaryFile _file = new(directory);

    /// <summary>Writes what is not zero; gives the number of bytes that took space.</summary>
    public long Write(long offset, ReadOnlySpan<byte> bytes)
    {
        try
        {
            return _file.Write(offset, bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw Failed("written", e);
        }
    }

    /// <summary>Reads what was written; zeroes elsewhere.</summary>
    public void Read(long offset, Span<byte> bytes)
    {
        try
        {
            _file.Read(offset, bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed("read", e);
        }
    }

    /// <summary>Gives the space of a range back; false where the file system cannot.</summary>
    public bool TryRelease(long offset, long count) => _file.TryRelease(offset, count);

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private BlockException Failed(string what, Exception e) => new(
        BlockErrorKind.NoSpace, $"the temporary file for unpacked data in '{_file.Folder}' cannot be {what}: {e.Message}", e)
    {
        Hint = "Name another folder for it with the option spool-directory or with TMPDIR.",
    };
}
