using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>
/// A temporary file without a name, for this user only, that exists while it is open: a crash leaves nothing. It is
/// sparse: zeroes are not written, and what lies behind its end reads as zeroes. Made with the first write.
/// </summary>
/// <param name="directory">Its folder; null for TMPDIR, or /var/tmp.</param>
public sealed class TemporaryFile(string? directory) : IDisposable
{
    private const int Block = 4096;
    private const uint OwnerOnly = 0x180; // rw-------

    private readonly Lock _lock = new();
    private SafeFileHandle? _file;
    private bool _isClosed;

    /// <summary>Where it is, or will be.</summary>
    public string Folder { get; } = directory ?? Environment.GetEnvironmentVariable("TMPDIR") ?? "/var/tmp";

    /// <summary>Writes what is not zero; gives the number of bytes that took space.</summary>
    /// <exception cref="IOException">It cannot be made, or written.</exception>
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
                RandomAccess.Write(_file ?? Open(), bytes[..count], offset);
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
    /// <exception cref="IOException">It cannot be read.</exception>
    public void Read(long offset, Span<byte> bytes)
    {
        if (_file is { } file)
        {
            for (int read = 1; read > 0 && !bytes.IsEmpty; bytes = bytes[read..], offset += read)
            {
                read = RandomAccess.Read(file, bytes, offset);
            }
        }

        bytes.Clear();
    }

    /// <summary>Gives the space of a range back, which reads as zeroes then; false where the file system cannot.</summary>
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

    private SafeFileHandle Open()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isClosed, this);
            if (_file is not null)
            {
                return _file;
            }

            string path = Path.Join(Folder, $".imagemount-{Guid.NewGuid():n}");
            SafeFileHandle? file = SysOpen.TryOpen(
                path, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, OwnerOnly);
            if (file is null)
            {
                throw new ErrnoException("open", path, errno);
            }

            try
            {
                File.Delete(path);
            }
            catch
            {
                file.Dispose();
                throw;
            }

            _file = file;
            return file;
        }
    }
}
