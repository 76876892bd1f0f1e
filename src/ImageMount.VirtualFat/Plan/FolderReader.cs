using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// Reads one folder of the host at a time: names with what they are, in the order of their bytes, so that the same folder
/// makes the same disk. One getdents64 for some thousand names and one statx for each; nothing is opened.
/// </summary>
internal sealed class FolderReader
{
    private readonly byte[] _records = new byte[64 << 10];
    private readonly List<(int At, int Length)> _found = [];
    private byte[] _names = new byte[16 << 10];
    private int _used;

    /// <summary>What was found.</summary>
    public List<StatInfo> Stats { get; } = [];

    /// <summary>How many.</summary>
    public int Count => _found.Count;

    /// <summary>A name.</summary>
    public ReadOnlySpan<byte> NameOf(int index) => _names.AsSpan(_found[index].At, _found[index].Length);

    /// <summary>
    /// Reads a folder. 0, or a positive errno when it cannot be read; what vanishes meanwhile is not there.
    /// </summary>
    public int Read(SafeFileHandle folder)
    {
        _found.Clear();
        Stats.Clear();
        _used = 0;

        // A descriptor of its own: the position of the other one may be anywhere.
        using SafeFileHandle? list = SysOpenAt.TryOpen(
            folder, "."u8, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out int errno);
        if (list is null)
        {
            return errno;
        }

        while (true)
        {
            int bytes = SysGetdents.Read(list, _records);
            if (bytes <= 0)
            {
                errno = -bytes;
                break;
            }

            ReadOnlySpan<byte> rest = _records.AsSpan(0, bytes);
            while (SysGetdents.TryNext(ref rest, out ReadOnlySpan<byte> name))
            {
                if (!name.SequenceEqual("."u8) && !name.SequenceEqual(".."u8))
                {
                    Keep(name);
                }
            }
        }

        if (errno != 0)
        {
            return errno;
        }

        _found.Sort((a, b) => _names.AsSpan(a.At, a.Length).SequenceCompareTo(_names.AsSpan(b.At, b.Length)));
        Examine((int)list.DangerousGetHandle());
        return 0;
    }

    private void Keep(ReadOnlySpan<byte> name)
    {
        if (_used + name.Length > _names.Length)
        {
            Array.Resize(ref _names, _names.Length * 2);
        }

        name.CopyTo(_names.AsSpan(_used));
        _found.Add((_used, name.Length));
        _used += name.Length;
        if (_found.Count > EntryTable.MaxEntries)
        {
            throw BlockException.Limit("the folder has too many entries", _found.Count, EntryTable.MaxEntries);
        }
    }

    private void Examine(int folder)
    {
        int kept = 0;
        for (int i = 0; i < _found.Count; i++)
        {
            int errno = -Stat.TryGetAt(folder, NameOf(i), out StatInfo stat);
            if (errno == Errno.ENOENT)
            {
                continue;
            }

            if (errno != 0)
            {
                throw HostErrors.Make(
                    errno, "cannot find out what it is", System.Text.Encoding.UTF8.GetString(NameOf(i)));
            }

            _found[kept++] = _found[i];
            Stats.Add(stat);
        }

        _found.RemoveRange(kept, _found.Count - kept);
    }
}
