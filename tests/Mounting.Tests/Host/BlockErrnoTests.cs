using ImageMount.Mounting.Fuse;

namespace ImageMount.Mounting.Tests.Host;

public sealed class BlockErrnoTests
{
    [Fact]
    public void Every_kind_has_an_errno_of_its_own_meaning()
    {
        var table = Enum.GetValues<BlockErrorKind>().ToDictionary(k => k, BlockErrno.Of);
        Assert.All(table, row => Assert.InRange(row.Value, 1, 4095));
        // What the kernel remembers for the whole mount must never come out of an image.
        Assert.DoesNotContain(Errno.ENOSYS, table.Values);
        // A kind that is missing in the table would be EIO; only these two may be.
        Assert.Equal(
            [BlockErrorKind.InvalidData, BlockErrorKind.IoError],
            table.Where(row => row.Value == Errno.EIO).Select(row => row.Key).Order());
    }

    [Theory]
    [InlineData(Errno.ENOENT, Errno.EIO)]
    [InlineData(Errno.ENOSYS, Errno.EIO)]
    [InlineData(Errno.EDQUOT, Errno.EDQUOT)]
    [InlineData(0, Errno.EIO)]
    public void A_host_errno_does_not_shine_through_except_for_quotas(int host, int expected) =>
        Assert.Equal(
            expected, BlockErrno.Of(new BlockException(BlockErrorKind.IoError, "x") { Errno = host }));
}
