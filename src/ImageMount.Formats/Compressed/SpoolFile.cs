using ImageMount.Core.Block;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Formats.Compressed;

/// <summary>
/// A temporary file without a name, for this user only, that exists while it is open. It is sparse: zeroes are not
/// written, and what lies behind its end reads as zeroes. Made with the first write.
/// </summary>
internal sealed class SpoolFile(string? directory) : IDisposable
{
    private const int Block = 4096;
    private const uint OwnerOnly = 0x180; // rw-------

    private readonly Lock _lock = new();
    private SafeFileHandle? _file;
    private bool _isClosed;

    /// <summary>Writes what is not zero; gives the number of bytes that took space.</summary>
    public long Write(long offset, ReadOnlySpan<byte> bytes)
    {
        long stored = 0;
        while (!bytes.IsEmpty)
        {
            // Whole blocks of the file that hold something, joined.
            int count = 0;
            while (count < bytes.Length && NextBlock(offset + count, bytes[count..]).ContainsAnyExcept((byte)0))
            {
                count += NextBlock(offset + count, bytes[count..]).Length;
            }

            if (count > 0)
            {
                WriteAll(offset, bytes[..count]);
                stored += count;
            }
            else
            {
                count = NextBlock(offset, bytes).Length;
            }

            offset += count;
            bytes = bytes[count..];
        }

        return stored;
    }

    /// <summary>Reads what was written; zeroes elsewhere.</summary>
    public void Read(long offset, Span<byte> bytes)
    {
        if (_file is { } file)
        {
            try
            {
                for (int read = 1; read > 0 && !bytes.IsEmpty; bytes = bytes[read..], offset += read)
                {
                    read = RandomAccess.Read(file, bytes, offset);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw Failed("read", e);
            }
        }

        bytes.Clear();
    }

    /// <summary>Gives the space of a range back; false where the file system cannot.</summary>
    public bool TryRelease(long offset, long count) => _file is not { } file || SysFallocate.Allocate(
        (int)file.DangerousGetHandle(), SysFallocate.FALLOC_FL_PUNCH_HOLE | SysFallocate.FALLOC_FL_KEEP_SIZE, offset,
        count) == 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _isClosed = true;
            _file?.Dispose();
        }
    }

    private static ReadOnlySpan<byte> NextBlock(long offset, ReadOnlySpan<byte> bytes) =>
        bytes[..Math.Min(bytes.Length, Block - (int)(offset % Block))];

    private static BlockException Failed(string what, Exception e) => new(
        BlockErrorKind.NoSpace, $"the temporary file for unpacked data cannot be {what}: {e.Message}", e)
    {
        Hint = "Name another folder for it with the option spool-directory or with TMPDIR.",
    };

    private void WriteAll(long offset, ReadOnlySpan<byte> bytes)
    {
        SafeFileHandle file = _file ?? Open();
        try
        {
            RandomAccess.Write(file, bytes, offset);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw Failed("written", e);
        }
    }

    private SafeFileHandle Open()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            if (_file is not null)
            {
                return _file;
            }

            string folder = directory ?? Environment.GetEnvironmentVariable("TMPDIR") ?? "/var/tmp";
            string path = Path.Join(folder, $".imagemount-{Guid.NewGuid():n}");
            SafeFileHandle? file = SysOpen.TryOpen(
                path, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, OwnerOnly);
            if (file is null)
            {
                throw Failed($"made in '{folder}'", new ErrnoException("open", path, errno));
            }

            try
            {
                System.IO.File.Delete(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                file.Dispose();
                throw Failed("unlinked", e);
            }

            _file = file;
            return file;
        }
    }
}
