using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using ImageMount.VirtualFat.Journal;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// Reads files of the host where they are since the folder last followed the disk. A file that somebody changed,
/// shortened or removed gives what it has, and zeroes beyond, as in a disk that is only read. A few files stay open.
/// For several threads.
/// </summary>
/// <param name="host">The folder; used under this object's lock only.</param>
/// <param name="warn">Told of each file that is not as it was, once.</param>
internal sealed class HostFiles(HostTree host, Action<string> warn) : IDisposable
{
    private const int MaxOpen = 64;
    private readonly Lock _lock = new();
    private readonly Dictionary<FolderNode, SafeFileHandle> _open = new(ReferenceEqualityComparer.Instance);
    private readonly Queue<FolderNode> _order = new();
    private readonly HashSet<FolderNode> _warned = new(ReferenceEqualityComparer.Instance);

    /// <summary>
    /// The folder is half of what it is to be: a file that is not in its place is an error then, and not one that
    /// somebody removed.
    /// </summary>
    public bool IsUnsettled { get; set; }

    /// <summary>Fills a buffer from a file; behind its end, on disk or host, there are zeroes.</summary>
    public void Read(FolderNode file, long offset, Span<byte> buffer)
    {
        int inside = (int)Math.Clamp(file.Size - offset, 0, buffer.Length);
        buffer[inside..].Clear();
        buffer = buffer[..inside];
        if (buffer.IsEmpty)
        {
            return;
        }

        SafeFileHandle? handle = Open(file);
        if (handle is null)
        {
            buffer.Clear();
            return;
        }

        long count;
        int errno;
        try
        {
            using var held = new HeldDescriptor(handle);
            count = SysPread.Read(held.Number, buffer, offset, 1, out errno);
        }
        catch (ObjectDisposedException)
        {
            // Another thread closed it to make room.
            Read(file, offset, buffer);
            return;
        }

        if (errno != 0)
        {
            throw HostErrors.Make(errno, "cannot read the file", host.NameOf(file.Path), offset);
        }

        if (count < buffer.Length)
        {
            Warn(file, "is shorter than it was; zeroes are read behind its end");
            buffer[(int)count..].Clear();
        }
    }

    /// <summary>Closes all: what they are called may have changed.</summary>
    public void Forget()
    {
        lock (_lock)
        {
            foreach (SafeFileHandle handle in _open.Values)
            {
                handle.Dispose();
            }

            _open.Clear();
            _order.Clear();
            host.Forget();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Forget();

    private SafeFileHandle? Open(FolderNode file)
    {
        lock (_lock)
        {
            if (_open.TryGetValue(file, out SafeFileHandle? handle))
            {
                return handle;
            }

            host.Forget();
            handle = host.TryOpen(file.Path, SysOpen.O_RDONLY, out int errno);
            if (handle is null)
            {
                if (errno is not (Errno.ENOENT or Errno.ENOTDIR or Errno.ELOOP))
                {
                    throw HostErrors.Make(errno, "cannot open the file", host.NameOf(file.Path));
                }

                Warn(file, "is not there any more; zeroes are read instead");
                return null;
            }

            if (Stat.TryGet(handle, out StatInfo info) != 0 || !info.IsRegular)
            {
                handle.Dispose();
                Warn(file, "is no file any more; zeroes are read instead");
                return null;
            }

            if (!HostIdentity.Of(info).IsStill(file.Host))
            {
                using SafeFileHandle? unsettled = IsUnsettled ? handle : null;
                Warn(file, "was changed by somebody else; the disk shows what it has now");
            }

            if (_order.Count == MaxOpen && _open.Remove(_order.Dequeue(), out SafeFileHandle? oldest))
            {
                oldest.Dispose();
            }

            _open.Add(file, handle);
            _order.Enqueue(file);
            return handle;
        }
    }

    private void Warn(FolderNode file, string what)
    {
        if (IsUnsettled)
        {
            throw new BlockException(
                BlockErrorKind.IoError,
                $"'{host.NameOf(file.Path)}' cannot be read before the folder is brought up to date, which failed");
        }

        lock (_lock)
        {
            if (!_warned.Add(file))
            {
                return;
            }
        }

        warn($"'{host.NameOf(file.Path)}' {what}");
    }
}
