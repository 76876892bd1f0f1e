using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Interop;
using ImageMount.VirtualFat.Journal;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Volume;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Applying;

/// <summary>A new file or folder in the staging folder.</summary>
/// <param name="Path">Where.</param>
/// <param name="Is">What it is.</param>
/// <param name="Doubtful">
/// Files of the host that parts of it came from and that had changed since they were planned; such a file may be a
/// mixture.
/// </param>
internal readonly record struct StagedFile(HostPath Path, HostIdentity Is, IReadOnlyList<FolderNode> Doubtful);

/// <summary>
/// Makes the new versions of files in the staging folder, whole and durable, before anything else in the folder is
/// touched. Bytes that the guest did not write come from the host's files, which are looked at before and afterwards:
/// one that has changed meanwhile is named, so that no mixture passes for the guest's file.
/// </summary>
internal sealed class FileStager
{
    private const int ChunkSize = 1 << 20;
    private const uint NewMode = 0x1b6; // 0666, less umask
    private const uint NewFolderMode = 0x1ff; // 0777, less umask
    private const uint WriteBits = 0x92; // 0222
    private const uint SetIdBits = 0xc00; // 06000
    private const string Capabilities = "security.capability";
    private const uint OwnerWrite = 0x80; // 0200
    private const uint ModeBits = 0xfff;
    private readonly IDiskReader _disk;
    private readonly VolumeGeometry _geometry;
    private readonly JournalBlocks _journal;
    private readonly DataMap _map;
    private readonly HostChanges _changes;
    private readonly StagingFolder _staging;
    private readonly TimeZoneInfo _zone;

    /// <summary>Puts one together.</summary>
    public FileStager(
        IDiskReader disk, VolumeGeometry geometry, JournalBlocks journal, DataMap map, HostChanges changes,
        StagingFolder staging, TimeZoneInfo zone)
    {
        (_disk, _geometry, _journal, _map) = (disk, geometry, journal, map);
        (_changes, _staging, _zone) = (changes, staging, zone);
    }

    /// <summary>Makes the new version of a file.</summary>
    /// <param name="file">The file on the disk.</param>
    /// <param name="before">What it was; its owner, mode and attributes are taken over. Null for a new one.</param>
    /// <param name="owner">Folder whose owner a new file gets, when we are root.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<StagedFile> MakeFileAsync(
        VolumeNode file, FolderNode? before, HostPath owner, CancellationToken cancellationToken)
    {
        HostPath path = _staging.NewPath();
        using SafeFileHandle handle = _changes.MakeFile(path, NewMode);
        HashSet<FolderNode> sources = Sources(file);
        var doubtful = new HashSet<FolderNode>(sources.Where(HasChanged));
        await CopyAsync(file, handle, path, cancellationToken).ConfigureAwait(false);
        doubtful.UnionWith(sources.Where(HasChanged));
        using SafeFileHandle? old = before is null ? null : _changes.Tree.TryOpen(before.Path, SysOpen.O_RDONLY, out _);
        if (old is not null && Stat.TryGet(old, out StatInfo info) == 0 && info.IsRegular)
        {
            TakeOver(old, info, handle, path, ModeFor(info.Mode & ModeBits, before!.Attributes, file.Attributes));
        }
        else
        {
            SetOwner(handle, path, owner);
            SetReadOnly(handle, path, file.Attributes);
        }

        if (file.Times.TryGetWriteNs(_zone, out long modified))
        {
            _changes.SetModified(handle, path, modified);
        }

        _changes.Sync(handle, path);
        return new StagedFile(path, Identity(handle), [.. doubtful]);
    }

    /// <summary>Makes a new folder.</summary>
    public StagedFile MakeFolder(HostPath owner)
    {
        HostPath path = _staging.NewPath();
        _changes.MakeFolder(path, NewFolderMode);
        using SafeFileHandle handle = _changes.Tree.TryOpen(path, SysOpen.O_RDONLY | SysOpen.O_DIRECTORY, out int errno)
            ?? throw Protocols.HostErrors.Make(errno, "cannot open the folder", _changes.Tree.NameOf(path));
        SetOwner(handle, path, owner);
        return new StagedFile(path, Identity(handle), []);
    }

    /// <summary>Permissions after the read-only attribute changed; the same when it did not.</summary>
    public static uint ModeFor(uint mode, FatAttributes before, FatAttributes now) =>
        (before & FatAttributes.ReadOnly) == (now & FatAttributes.ReadOnly) ? mode
        : (now & FatAttributes.ReadOnly) != 0 ? mode & ~WriteBits
        : mode | OwnerWrite;

    private HashSet<FolderNode> Sources(VolumeNode file)
    {
        var sources = new HashSet<FolderNode>(ReferenceEqualityComparer.Instance);
        long left = file.Size;
        foreach (ClusterRun run in file.Runs)
        {
            for (uint i = 0; i < run.Count && left > 0; i++, left -= _geometry.ClusterSize)
            {
                long count = Math.Min(left, _geometry.ClusterSize);
                if (_map.TryFind(run.First + i, out DataPiece piece, out _) && !sources.Contains(piece.Node)
                    && !_journal.Covers(_geometry.OffsetOf(run.First + i), count))
                {
                    sources.Add(piece.Node);
                }
            }
        }

        return sources;
    }

    private bool HasChanged(FolderNode node) => !_changes.Tree.Look(node.Path).IsStill(node.Host);

    private async ValueTask CopyAsync(
        VolumeNode file, SafeFileHandle handle, HostPath path, CancellationToken cancellationToken)
    {
        using BufferLease buffer = BufferPool.Shared.Rent(ChunkSize);
        long at = 0;
        foreach (ClusterRun run in file.Runs)
        {
            long offset = _geometry.OffsetOf(run.First);
            long end = Math.Min(at + (long)run.Count * _geometry.ClusterSize, file.Size);
            while (at < end)
            {
                Memory<byte> part = buffer.Memory[..(int)Math.Min(ChunkSize, end - at)];
                await _disk.ReadAsync(offset, part, cancellationToken).ConfigureAwait(false);
                if (part.Span.ContainsAnyExcept((byte)0))
                {
                    _changes.Write(handle, path, at, part.Span);
                }

                at += part.Length;
                offset += part.Length;
            }
        }

        _changes.Truncate(handle, path, file.Size);
    }

    private void TakeOver(SafeFileHandle old, in StatInfo info, SafeFileHandle handle, HostPath path, uint mode)
    {
        if (Stat.TryGet(handle, out StatInfo own) == 0 && (own.Uid != info.Uid || own.Gid != info.Gid)
            && SysUser.EffectiveId == 0)
        {
            _changes.SetOwner(handle, path, info.Uid, info.Gid);
        }

        // Rights that go with the old content do not go with the guest's: as when a file is written, set-user-id and
        // set-group-id are taken away, and so are capabilities, below.
        _changes.SetMode(handle, path, mode & ~SetIdBits);
        if (SysListXattr.TryList(old, out IReadOnlyList<string> names) != 0)
        {
            return;
        }

        foreach (string name in names)
        {
            if (name != Capabilities && SysGetXattr.TryGet(old, name, out byte[] value) == 0)
            {
                // What may not be set, such as a label of the system's, the new file has from its folder.
                _changes.TrySetAttribute(handle, path, name, value);
            }
        }
    }

    private void SetOwner(SafeFileHandle handle, HostPath path, HostPath owner)
    {
        if (SysUser.EffectiveId == 0 && _changes.Tree.TryStat(owner, out StatInfo folder) == 0
            && Stat.TryGet(handle, out StatInfo own) == 0 && (own.Uid != folder.Uid || own.Gid != folder.Gid))
        {
            _changes.SetOwner(handle, path, folder.Uid, folder.Gid);
        }
    }

    private void SetReadOnly(SafeFileHandle handle, HostPath path, FatAttributes attributes)
    {
        if ((attributes & FatAttributes.ReadOnly) != 0 && Stat.TryGet(handle, out StatInfo info) == 0)
        {
            _changes.SetMode(handle, path, info.Mode & ModeBits & ~WriteBits);
        }
    }

    private static HostIdentity Identity(SafeFileHandle handle)
    {
        int result = Stat.TryGet(handle, out StatInfo info);
        return result == 0
            ? HostIdentity.Of(info)
            : throw Protocols.HostErrors.Make(-result, "cannot look at a new file", "the staging folder");
    }
}
