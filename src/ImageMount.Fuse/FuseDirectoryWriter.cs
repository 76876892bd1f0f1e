using System.Text;
using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse;

/// <summary>
/// Collects the entries of one READDIR or READDIRPLUS answer straight into the reply buffer. Valid until the
/// operation's task completes.
/// </summary>
public sealed class FuseDirectoryWriter
{
    private Memory<byte> _memory;

    internal FuseDirectoryWriter()
    {
    }

    /// <summary>READDIRPLUS: every entry counts as a successful LOOKUP (adds 1 to the inode's lookup count), except
    /// "." and "..", and those with inode 0 in <see cref="FuseEntry.Inode"/>.</summary>
    public bool IsPlus { get; private set; }

    internal int Length { get; private set; }

    internal void Reset(Memory<byte> memory, bool plus)
    {
        _memory = memory;
        IsPlus = plus;
        Length = 0;
    }

    /// <summary>Adds an entry. For READDIR only the inode number (st_ino) and the file type of
    /// <paramref name="entry"/> are used; READDIRPLUS wants it complete.</summary>
    /// <param name="name">Bytes of the name, 1…255, no '/', no NUL.</param>
    /// <param name="nextOffset">Position after this entry, not 0: where the next call resumes.</param>
    /// <param name="entry">What the name leads to.</param>
    /// <returns>False when there is no room: stop, and answer 0. The entry was not added (and not counted).</returns>
    public bool TryAdd(ReadOnlySpan<byte> name, ulong nextOffset, in FuseEntry entry)
    {
        ArgumentOutOfRangeException.ThrowIfZero(name.Length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(name.Length, 255);
        int head = (IsPlus ? WireSize.EntryOut : 0) + WireSize.Dirent;
        int size = (head + name.Length + 7) & ~7;
        if (_memory.Length - Length < size)
        {
            return false;
        }
        Span<byte> record = _memory.Span.Slice(Length, size);
        record.Clear();
        Span<byte> dirent = record;
        if (IsPlus)
        {
            WireWriter.Entry(record, entry);
            dirent = record[WireSize.EntryOut..];
        }
        ulong shown = entry.Attributes.Inode != 0 ? entry.Attributes.Inode : entry.Inode;
        WireWriter.Dirent(dirent, shown, nextOffset, name.Length, entry.Attributes.Mode);
        name.CopyTo(dirent[WireSize.Dirent..]);
        Length += size;
        return true;
    }

    /// <summary>The same with a name in UTF-16.</summary>
    public bool TryAdd(string name, ulong nextOffset, in FuseEntry entry)
    {
        Span<byte> bytes = stackalloc byte[256];
        return Encoding.UTF8.TryGetBytes(name, bytes, out int count)
            ? TryAdd(bytes[..count], nextOffset, entry)
            : throw new ArgumentException("A name has at most 255 bytes of UTF-8.", nameof(name));
    }
}
