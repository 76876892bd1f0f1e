namespace ImageMount.Mounting.Fuse;

/// <summary>Open files by handle. Handles are small numbers, used again after the file is closed.</summary>
internal sealed class HandleTable
{
    private readonly Lock _lock = new();
    private readonly List<OpenFile?> _files = [];
    private int _count;

    /// <summary>Open files now.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Adds a file; the answer is its handle.</summary>
    public ulong Add(OpenFile file)
    {
        lock (_lock)
        {
            _count++;
            int free = _files.IndexOf(null);
            if (free >= 0)
            {
                _files[free] = file;
                return (ulong)free;
            }

            _files.Add(file);
            return (ulong)_files.Count - 1;
        }
    }

    /// <summary>The file of a handle, or null.</summary>
    public OpenFile? Find(ulong handle)
    {
        lock (_lock)
        {
            return handle < (ulong)_files.Count ? _files[(int)handle] : null;
        }
    }

    /// <summary>Takes a file out; null when there is none of this handle.</summary>
    public OpenFile? Remove(ulong handle)
    {
        lock (_lock)
        {
            if (handle >= (ulong)_files.Count || _files[(int)handle] is not { } file)
            {
                return null;
            }

            _files[(int)handle] = null;
            _count--;
            return file;
        }
    }
}
