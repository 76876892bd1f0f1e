using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// An open file of the cache, locked together with everybody else who uses it, so that nobody removes it. No method
/// throws for what the host or the file does: false is "as good as not there".
/// </summary>
internal sealed class CacheFile : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly int _fd;
    private readonly Lock _marking = new();

    /// <summary>Takes over an open, locked file.</summary>
    public CacheFile(SafeFileHandle handle, CacheHeader header)
    {
        _handle = handle;
        _fd = (int)handle.DangerousGetHandle(); // A bare number on the way of every read; the device closes it last.
        Header = header;
        Layout = new CacheLayout(header.Length);
    }

    /// <summary>What it holds.</summary>
    public CacheHeader Header { get; }

    /// <summary>Where that is.</summary>
    public CacheLayout Layout { get; }

    /// <summary>
    /// Reads bytes of the disk as the file has them; whether they are right is the caller's business.
    /// </summary>
    public bool TryRead(long offset, Span<byte> buffer) =>
        SysPread.Read(_fd, buffer, offset, 1, out int errno) == buffer.Length && errno == 0;

    /// <summary>Reads marks; what is not to be had is 0.</summary>
    public void ReadMarks(long unit, Span<uint> marks)
    {
        Span<byte> bytes = MemoryMarshal.AsBytes(marks);
        long done = SysPread.Read(_fd, bytes, Layout.IndexOffset + (unit * CacheLayout.MarkSize), 1, out int errno);
        bytes[(errno == 0 ? (int)done & -CacheLayout.MarkSize : 0)..].Clear();
        if (!BitConverter.IsLittleEndian)
        {
            foreach (ref uint mark in marks)
            {
                mark = MemoryMarshal.Cast<uint, Le32>(MemoryMarshal.CreateSpan(ref mark, 1))[0];
            }
        }
    }

    /// <summary>Writes bytes of the disk. 0, or a positive errno.</summary>
    public int Write(long offset, ReadOnlySpan<byte> bytes)
    {
        SysPwrite.Write(_fd, bytes, offset, 1, out int errno);
        return errno;
    }

    /// <summary>
    /// Writes marks of units that follow each other. 0, or a positive errno. Does nothing after the end.
    /// </summary>
    public int WriteMarks(long unit, ReadOnlySpan<uint> marks)
    {
        Span<Le32> stored = marks.Length <= 256 ? stackalloc Le32[marks.Length] : new Le32[marks.Length];
        for (int i = 0; i < marks.Length; i++)
        {
            stored[i] = marks[i];
        }

        lock (_marking)
        {
            int errno = 0;
            if (!_handle.IsClosed)
            {
                SysPwrite.Write(
                    _fd, MemoryMarshal.AsBytes(stored), Layout.IndexOffset + (unit * CacheLayout.MarkSize), 1, out errno);
            }

            return errno;
        }
    }

    /// <summary>How many bytes of the disk have a mark.</summary>
    public long CountMarked()
    {
        var marks = new uint[64 << 10];
        long bytes = 0;
        for (long unit = 0; unit < Layout.Units; unit += marks.Length)
        {
            int count = (int)Math.Min(marks.Length, Layout.Units - unit);
            ReadMarks(unit, marks.AsSpan(0, count));
            for (int i = 0; i < count; i++)
            {
                bytes += marks[i] == 0 ? 0 : Layout.LengthOf(unit + i);
            }
        }

        return bytes;
    }

    /// <summary>Closes it; whoever tidies up may remove it from now on.</summary>
    public void Dispose()
    {
        lock (_marking)
        {
            if (!_handle.IsClosed)
            {
                SysFlock.Unlock(_handle);
                _handle.Dispose();
            }
        }
    }
}
