using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// The folder on the host, by paths below it. Every part is opened in the one before it without following links, so
/// that nothing outside can be reached. Not for several threads.
/// </summary>
/// <param name="root">The folder, open; its owner closes it.</param>
/// <param name="name">What messages call it.</param>
internal sealed class HostTree(SafeFileHandle root, string name) : IDisposable
{
    private (HostPath Path, SafeFileHandle Handle)? _last;

    /// <summary>What messages call the folder.</summary>
    public string Name { get; } = name;

    /// <summary>What messages call something in it.</summary>
    public string NameOf(HostPath path) => path.Raw.Length == 0 ? Name : $"{Name.TrimEnd('/')}/{path}";

    /// <summary>What there is at a path; <see cref="HostIdentity.None"/> when there is no file or folder.</summary>
    public HostIdentity Look(HostPath path) => TryStat(path, out StatInfo info) == 0 ? HostIdentity.Of(info) : default;

    /// <summary>True when there is anything at a path, also a link or a device.</summary>
    public bool Exists(HostPath path) => TryStat(path, out _) == 0;

    /// <summary>What there is at a path, a link itself: 0 or -errno.</summary>
    public int TryStat(HostPath path, out StatInfo info)
    {
        info = default;
        if (path.Raw.Length == 0)
        {
            return Stat.TryGet(root, out info);
        }

        SafeFileHandle? folder = TryOpenFolder(path.Parent, out int errno);
        if (folder is null)
        {
            return -errno;
        }

        using var held = new Journal.HeldDescriptor(folder);
        return Stat.TryGetAt(held.Number, path.Name.ToBytes(), out info);
    }

    /// <summary>Opens a file or folder, never a link: a descriptor of the caller's, or null and a positive
    /// errno.</summary>
    public SafeFileHandle? TryOpen(HostPath path, int flags, out int errno, uint mode = 0)
    {
        SafeFileHandle? folder = TryOpenFolder(path.Parent, out errno);
        return folder is null
            ? null
            : SysOpenAt.TryOpen(
                folder, path.Name.ToBytes(), flags | SysOpen.O_NOFOLLOW | SysOpen.O_NONBLOCK, out errno, mode);
    }

    /// <summary>An open folder, which stays this object's and is good until the next call.</summary>
    public SafeFileHandle OpenFolder(HostPath path) =>
        TryOpenFolder(path, out int errno) ?? throw HostErrors.Make(errno, "cannot open the folder", NameOf(path));

    /// <summary>The same; null and a positive errno when it is not there, or is no folder.</summary>
    public SafeFileHandle? TryOpenFolder(HostPath path, out int errno)
    {
        errno = 0;
        if (path.Raw.Length == 0)
        {
            return root;
        }

        if (_last is { } last && last.Path == path)
        {
            return last.Handle;
        }

        SafeFileHandle folder = root;
        foreach (string part in path.Parts)
        {
            SafeFileHandle? next = SysOpenAt.TryOpen(
                folder, new HostPath(part).ToBytes(), SysOpen.O_RDONLY | SysOpen.O_DIRECTORY | SysOpen.O_NOFOLLOW,
                out errno);
            if (folder != root)
            {
                folder.Dispose();
            }

            if (next is null)
            {
                return null;
            }

            folder = next;
        }

        Forget();
        _last = (path, folder);
        return folder;
    }

    /// <summary>Forgets the folder that was opened last: what it is called may mean another by now.</summary>
    public void Forget()
    {
        _last?.Handle.Dispose();
        _last = null;
    }

    /// <summary>Names in a folder.</summary>
    public List<HostPath> List(HostPath path)
    {
        Forget();
        var names = new List<HostPath>();
        SafeFileHandle folder = OpenFolder(path);
        using SafeFileHandle own = SysOpenAt.TryOpen(
            folder, "."u8, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out int errno)
            ?? throw HostErrors.Make(errno, "cannot list the folder", NameOf(path));
        byte[] buffer = new byte[32 << 10];
        while (true)
        {
            int count = SysGetdents.Read(own, buffer);
            if (count < 0)
            {
                throw HostErrors.Make(-count, "cannot list the folder", NameOf(path));
            }

            ReadOnlySpan<byte> records = buffer.AsSpan(0, count);
            while (SysGetdents.TryNext(ref records, out ReadOnlySpan<byte> name))
            {
                if (!name.SequenceEqual("."u8) && !name.SequenceEqual(".."u8))
                {
                    names.Add(HostPath.FromBytes(name));
                }
            }

            if (count == 0)
            {
                return names;
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Forget();
}
