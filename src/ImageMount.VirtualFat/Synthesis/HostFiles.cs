using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using ImageMount.VirtualFat.Plan;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Synthesis;

/// <summary>
/// The contents of the planned files, read from the host when asked. A bounded number of files stays open. A file that is
/// no longer what was planned gives what it has now, within its planned size, and zeroes beyond; that is told once for
/// each file. A file that cannot be read is an error, never zeroes.
/// </summary>
/// <param name="host">The folder.</param>
/// <param name="plan">The plan.</param>
/// <param name="warn">Told of files that changed.</param>
internal sealed class HostFiles(HostFolder host, FatPlan plan, Action<string> warn) : IDisposable
{
    private const int MaxOpen = 128;

    /// <summary>As many files are told of by path.</summary>
    private const int MaxTold = 100;

    private readonly Lock _lock = new();
    private readonly Dictionary<int, LinkedListNode<OpenFile>> _open = [];
    private readonly LinkedList<OpenFile> _order = new();
    private readonly HashSet<int> _told = [];
    private bool _closed;

    /// <summary>Fills a buffer with a part of a file that lies within its planned size.</summary>
    public void Read(int entry, long offset, Span<byte> buffer)
    {
        SafeFileHandle? handle = Take(entry);
        if (handle is null)
        {
            buffer.Clear();
            return;
        }

        try
        {
            long done = SysPread.Read((int)handle.DangerousGetHandle(), buffer, offset, 1, out int errno);
            if (errno != 0)
            {
                throw HostErrors.Make(
                    errno, $"cannot read {buffer.Length} bytes of '{PathOf(entry)}'", host.Path, offset + done);
            }

            if (done < buffer.Length)
            {
                Tell(entry, "is shorter than when the disk was made; zeroes take the place of what is missing");
                buffer[(int)done..].Clear();
            }
        }
        finally
        {
            handle.DangerousRelease();
        }
    }

    /// <summary>What the first bytes of a part of a file are: data, or a hole; at most <paramref name="count"/>.</summary>
    public BlockExtent Map(int entry, long offset, long count)
    {
        SafeFileHandle? handle = Take(entry);
        if (handle is null)
        {
            return Extents.Zero(count);
        }

        try
        {
            int fd = (int)handle.DangerousGetHandle();
            long data = SysLseek.Seek(fd, offset, SysLseek.SEEK_DATA);
            if (data == -Errno.ENXIO)
            {
                return Extents.Zero(count);
            }

            if (data > offset)
            {
                return Extents.Zero(Math.Min(count, data - offset));
            }

            // A file system that knows nothing of holes is all data.
            long hole = data < 0 ? -1 : SysLseek.Seek(fd, offset, SysLseek.SEEK_HOLE);
            return Extents.Data(hole > offset ? Math.Min(count, hole - offset) : count);
        }
        finally
        {
            handle.DangerousRelease();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _closed = true;
            foreach (OpenFile file in _order)
            {
                file.Handle.Dispose();
            }

            _order.Clear();
            _open.Clear();
        }
    }

    /// <summary>The open file, to be released; null when it is there no more.</summary>
    private SafeFileHandle? Take(int entry)
    {
        bool held = false;
        lock (_lock)
        {
            if (_open.TryGetValue(entry, out LinkedListNode<OpenFile>? node))
            {
                _order.Remove(node);
                if (host.Clock.GetElapsedTime(node.Value.Opened) < HostFolder.Trust)
                {
                    _order.AddFirst(node);
                    node.Value.Handle.DangerousAddRef(ref held);
                    return node.Value.Handle;
                }

                // Another file may have the name by now, as after every editor, or none.
                _open.Remove(entry);
                node.Value.Handle.Dispose();
            }
        }

        SafeFileHandle? opened = Open(entry);
        if (opened is null)
        {
            return null;
        }

        opened.DangerousAddRef(ref held);
        lock (_lock)
        {
            if (_closed || _open.ContainsKey(entry))
            {
                // Somebody was faster: this one is closed when it is released.
                opened.Dispose();
                return opened;
            }

            _open[entry] = _order.AddFirst(new OpenFile(entry, opened, host.Clock.GetTimestamp()));
            if (_order.Count > MaxOpen)
            {
                OpenFile oldest = _order.Last!.Value;
                _order.RemoveLast();
                _open.Remove(oldest.Entry);
                oldest.Handle.Dispose();
            }
        }

        return opened;
    }

    private SafeFileHandle? Open(int entry)
    {
        SafeFileHandle? handle = host.TryOpen(plan.Table, entry, SysOpen.O_RDONLY, out int errno);
        if (handle is null)
        {
            // ELOOP, ENXIO: a link, a socket or a pipe without a writer has taken its place.
            if (errno is Errno.ENOENT or Errno.ENOTDIR or Errno.ELOOP or Errno.ENXIO or Errno.ESTALE)
            {
                Tell(entry, "is not there any more; zeroes take its place");
                return null;
            }

            throw HostErrors.Make(errno, $"cannot open '{PathOf(entry)}'", host.Path);
        }

        errno = -Stat.TryGet(handle, out StatInfo stat);
        if (errno != 0)
        {
            handle.Dispose();
            throw HostErrors.Make(errno, $"cannot open '{PathOf(entry)}'", host.Path);
        }

        if (!stat.IsRegular)
        {
            handle.Dispose();
            Tell(entry, "is not a file any more; zeroes take its place");
            return null;
        }

        ref EntryRecord planned = ref plan.Table[entry];
        if (stat.Size != planned.HostSize || stat.ModifiedNs != planned.HostModifiedNs
            || stat.ChangedNs != planned.HostChangedNs || stat.Inode != planned.HostInode)
        {
            Tell(entry, "has changed since the disk was made; it shows what it holds now, in its old size");
        }

        return handle;
    }

    private string PathOf(int entry) => ScanReport.Printable(plan.Table.PathOf(entry));

    private void Tell(int entry, string what)
    {
        int count;
        lock (_lock)
        {
            if (!_told.Add(entry))
            {
                return;
            }

            count = _told.Count;
        }

        if (count <= MaxTold)
        {
            warn($"'{PathOf(entry)}' {what}");
        }
        else if (count == MaxTold + 1)
        {
            warn($"more than {MaxTold} files have changed since the disk was made; no more are told of");
        }
    }

    /// <summary>A file that is open.</summary>
    /// <param name="Entry">Which.</param>
    /// <param name="Handle">Its descriptor.</param>
    /// <param name="Opened">When, by the folder's clock.</param>
    private readonly record struct OpenFile(int Entry, SafeFileHandle Handle, long Opened);
}
