using ImageMount.Fuse;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// What stat(2) shows of a node beyond its size, and what chmod, chown and touch may change for the mount's life.
/// </summary>
internal sealed class NodeState
{
    private readonly Lock _lock = new();
    private uint _mode;
    private uint _uid;
    private uint _gid;
    private FuseTimestamp _access;
    private FuseTimestamp _modify;
    private FuseTimestamp _change;
    private long _seenWrites;

    public NodeState(uint mode, uint uid, uint gid, FuseTimestamp time)
    {
        _mode = mode;
        _uid = uid;
        _gid = gid;
        _access = _modify = _change = time;
    }

    /// <summary>Set when delayed writes turned out to lie past the end; see <see cref="DiskFileSystem"/>.</summary>
    public volatile bool Overran;

    public FuseAttributes Attributes(TreeNode node, long size, long blocks, TimeSpan validity)
    {
        lock (_lock)
        {
            if (node is DiskFile file && file.Coherence.Writes != _seenWrites)
            {
                _seenWrites = file.Coherence.Writes;
                _modify = _change = FuseTimestamp.From(DateTimeOffset.UtcNow);
            }

            return new FuseAttributes
            {
                Inode = node.Id,
                Size = size,
                Blocks = blocks,
                BlockSize = 4096,
                Mode = _mode,
                LinkCount = node is TreeDirectory ? 2u : 1u,
                Uid = _uid,
                Gid = _gid,
                AccessTime = _access,
                ModifyTime = _modify,
                ChangeTime = _change,
                Validity = validity,
            };
        }
    }

    /// <summary>chmod, chown, utimens. The kernel has checked who may (default_permissions).</summary>
    public void Change(in FuseSetAttributes change)
    {
        FuseTimestamp now = FuseTimestamp.From(DateTimeOffset.UtcNow);
        lock (_lock)
        {
            if (change.Has(FuseSetAttributesMask.Mode))
            {
                _mode = (_mode & FuseMode.S_IFMT) | (change.Mode & 0x1FF); // no setuid, setgid or sticky bits here
            }

            _uid = change.Has(FuseSetAttributesMask.Uid) ? change.Uid : _uid;
            _gid = change.Has(FuseSetAttributesMask.Gid) ? change.Gid : _gid;
            _access = change.Has(FuseSetAttributesMask.AccessTimeNow) ? now
                : change.Has(FuseSetAttributesMask.AccessTime) ? change.AccessTime : _access;
            _modify = change.Has(FuseSetAttributesMask.ModifyTimeNow) ? now
                : change.Has(FuseSetAttributesMask.ModifyTime) ? change.ModifyTime : _modify;
            _change = change.Has(FuseSetAttributesMask.ChangeTime) ? change.ChangeTime : now;
        }
    }
}
