using System.Collections.Concurrent;
using ImageMount.Core.Block;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Filters.Overlay;

/// <summary>
/// Room for changed clusters: numbered slots of <see cref="SlotSize"/> bytes, the first ones in memory, the others in a
/// temporary file that has no name any more, so that nothing is left whatever happens to the process.
/// </summary>
public sealed class OverlayStore : IDisposable
{
    /// <summary>Bytes of a slot.</summary>
    public const int SlotSize = 64 << 10;

    private const int NoSpaceOnDevice = 28; // ENOSPC
    private const int QuotaExceeded = 122; // EDQUOT
    private readonly byte[]?[] _memory;
    private readonly string _folder;
    private readonly ConcurrentStack<uint> _free = new();
    private readonly Lock _lock = new();
    private FileStream? _file;
    private SafeFileHandle? _handle;
    private uint _used;

    /// <summary>Makes an empty store.</summary>
    /// <param name="memory">Bytes to keep in memory.</param>
    /// <param name="folder">Where the temporary file goes, should there be one.</param>
    public OverlayStore(long memory, string folder)
    {
        _memory = new byte[Math.Min(memory / SlotSize, 1 << 24)][];
        _folder = folder;
    }

    /// <summary>Bytes that the slots in use take, in memory and in the file.</summary>
    public long UsedBytes
    {
        get
        {
            lock (_lock)
            {
                return (long)(_used - (uint)_free.Count) * SlotSize;
            }
        }
    }

    /// <summary>Gives a slot. Its content is undefined.</summary>
    public uint Allocate()
    {
        if (_free.TryPop(out uint slot))
        {
            return slot;
        }

        lock (_lock)
        {
            if (_used == uint.MaxValue - 1)
            {
                throw new BlockException(BlockErrorKind.NoSpace, "the overlay is full");
            }

            slot = _used;
            if (slot < _memory.Length)
            {
                _memory[slot] = GC.AllocateUninitializedArray<byte>(SlotSize);
            }
            else if (_handle is null)
            {
                CreateFile();
            }

            _used++;
            return slot;
        }
    }

    /// <summary>Takes a slot back that nobody uses any more.</summary>
    public void Free(uint slot) => _free.Push(slot);

    /// <summary>Reads from a slot.</summary>
    public void Read(uint slot, int offset, Span<byte> buffer)
    {
        if (slot < _memory.Length)
        {
            _memory[slot].AsSpan(offset, buffer.Length).CopyTo(buffer);
            return;
        }

        long at = FileOffset(slot) + offset;
        try
        {
            while (!buffer.IsEmpty)
            {
                int count = RandomAccess.Read(_handle!, buffer, at);
                if (count == 0)
                {
                    // Behind the end: a slot whose last blocks were never written.
                    buffer.Clear();
                    return;
                }

                at += count;
                buffer = buffer[count..];
            }
        }
        catch (IOException e)
        {
            throw Failure("reading", e);
        }
    }

    /// <summary>Writes into a slot.</summary>
    public void Write(uint slot, int offset, ReadOnlySpan<byte> buffer)
    {
        if (slot < _memory.Length)
        {
            buffer.CopyTo(_memory[slot].AsSpan(offset));
            return;
        }

        try
        {
            RandomAccess.Write(_handle!, buffer, FileOffset(slot) + offset);
        }
        catch (IOException e)
        {
            throw Failure("writing", e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _file?.Dispose();
        Array.Clear(_memory);
    }

    private long FileOffset(uint slot) => (slot - _memory.Length) * SlotSize;

    private void CreateFile()
    {
        string path = Path.Combine(_folder, $"imgmount-overlay-{Guid.NewGuid():N}");
        try
        {
            var options = new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.ReadWrite,
                Share = FileShare.ReadWrite | FileShare.Delete,
                BufferSize = 0,
            };
            if (!OperatingSystem.IsWindows())
            {
                // The guest's data is nobody else's business.
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            }

            _file = new FileStream(path, options);
            File.Delete(path);
            _handle = _file.SafeFileHandle;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(
                BlockErrorKind.IoError, $"the overlay cannot make its temporary file in '{_folder}': {e.Message}", e)
            {
                Hint = "Choose another folder with TMPDIR or the option 'directory'.",
            };
        }
    }

    private BlockException Failure(string doing, IOException e)
    {
        // On Unix, .NET gives the errno as HResult of an IOException.
        bool isFull = e.HResult is NoSpaceOnDevice or QuotaExceeded;
        return new BlockException(
            isFull ? BlockErrorKind.NoSpace : BlockErrorKind.IoError,
            $"{doing} the temporary file of the overlay in '{_folder}': {e.Message}", e)
        {
            Errno = e.HResult is > 0 and < 4096 ? e.HResult : 0,
            Hint = isFull ? "Choose another folder with TMPDIR or the option 'directory'." : null,
        };
    }
}
