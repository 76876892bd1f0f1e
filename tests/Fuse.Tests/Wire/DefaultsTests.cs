namespace ImageMount.Fuse.Tests.Wire;

/// <summary>What a file system answers that overrides nothing but GETATTR. ENOSYS is remembered by the kernel for the
/// whole mount, so the operations that may say it are listed here one by one.</summary>
public sealed class DefaultsTests
{
    private sealed class Bare : FuseFileSystem
    {
        public override ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
            FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken) =>
            FuseResult<FuseAttributes>.Failed(Errno.ESTALE);
    }

    [Theory]
    [InlineData(1u, Errno.ENOENT)]      // LOOKUP
    [InlineData(3u, Errno.ESTALE)]      // GETATTR, its own answer
    [InlineData(4u, Errno.EPERM)]       // SETATTR
    [InlineData(5u, Errno.EINVAL)]      // READLINK
    [InlineData(6u, Errno.EPERM)]       // SYMLINK
    [InlineData(8u, Errno.EPERM)]       // MKNOD
    [InlineData(9u, Errno.EPERM)]       // MKDIR
    [InlineData(10u, Errno.EPERM)]      // UNLINK
    [InlineData(11u, Errno.EPERM)]      // RMDIR
    [InlineData(12u, Errno.EPERM)]      // RENAME
    [InlineData(13u, Errno.EPERM)]      // LINK
    [InlineData(14u, 0)]                // OPEN
    [InlineData(15u, Errno.EOPNOTSUPP)] // READ
    [InlineData(16u, Errno.EROFS)]      // WRITE
    [InlineData(17u, 0)]                // STATFS
    [InlineData(18u, 0)]                // RELEASE
    [InlineData(20u, 0)]                // FSYNC
    [InlineData(21u, Errno.ENOSYS)]     // SETXATTR
    [InlineData(22u, Errno.ENOSYS)]     // GETXATTR
    [InlineData(23u, Errno.ENOSYS)]     // LISTXATTR
    [InlineData(24u, Errno.ENOSYS)]     // REMOVEXATTR
    [InlineData(25u, Errno.ENOSYS)]     // FLUSH
    [InlineData(27u, 0)]                // OPENDIR
    [InlineData(28u, Errno.ENOTDIR)]    // READDIR
    [InlineData(29u, 0)]                // RELEASEDIR
    [InlineData(30u, 0)]                // FSYNCDIR
    [InlineData(34u, Errno.ENOSYS)]     // ACCESS
    [InlineData(35u, Errno.EPERM)]      // CREATE
    [InlineData(39u, Errno.ENOTTY)]     // IOCTL
    [InlineData(40u, Errno.ENOSYS)]     // POLL
    [InlineData(43u, Errno.EOPNOTSUPP)] // FALLOCATE
    [InlineData(44u, Errno.ENOTDIR)]    // READDIRPLUS
    [InlineData(45u, Errno.EPERM)]      // RENAME2
    [InlineData(46u, Errno.ENOSYS)]     // LSEEK
    [InlineData(47u, Errno.ENOSYS)]     // COPY_FILE_RANGE
    [InlineData(50u, 0)]                // SYNCFS
    [InlineData(51u, Errno.ENOSYS)]     // TMPFILE
    [InlineData(52u, Errno.ENOSYS)]     // STATX
    [InlineData(53u, Errno.ENOSYS)]     // COPY_FILE_RANGE_64
    public void Default_answer_is_the_documented_one(uint opcode, int errno)
    {
        using var harness = new WireHarness(new Bare());
        byte[] reply = harness.Send(opcode, 5, WireBytes.Parse(WireCases.All[opcode].Body))!;
        Assert.Equal(-errno, WireHarness.Error(reply));
        Assert.Empty(harness.Warnings);
    }
}
