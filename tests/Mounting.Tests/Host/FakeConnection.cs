using ImageMount.Fuse;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mounting.Tests.Host;

/// <summary>A kernel that only notes what it is told.</summary>
internal sealed class FakeConnection : IFuseConnection
{
    public List<(ulong Inode, long Offset, long Length)> Invalidated { get; } = [];

    public List<(ulong Parent, string Name)> Forgotten { get; } = [];

    public int BackingResult { get; set; } = -Errno.EOPNOTSUPP;

    public FuseConnectionInfo Info { get; } = new()
    {
        Minor = 40,
        MaxWrite = 1 << 20,
        MaxRead = 1 << 20,
        MaxReadahead = 0,
        WritebackCache = true,
        Passthrough = true,
        Flags = 0,
    };

    public int NotifyInvalidateInode(ulong inode, long offset, long length)
    {
        lock (Invalidated)
        {
            Invalidated.Add((inode, offset, length));
        }

        return 0;
    }

    public int NotifyInvalidateEntry(ulong parent, ReadOnlySpan<byte> name)
    {
        Forgotten.Add((parent, System.Text.Encoding.UTF8.GetString(name)));
        return 0;
    }

    public int NotifyStore(ulong inode, long offset, ReadOnlySpan<byte> data) => 0;

    public int NotifyDelete(ulong parent, ulong child, ReadOnlySpan<byte> name) => 0;

    public int RegisterBacking(SafeFileHandle file) => BackingResult;

    public int UnregisterBacking(int backingId) => 0;
}
