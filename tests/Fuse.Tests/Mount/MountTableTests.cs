using System.Text;
using ImageMount.Fuse.Mount;

namespace ImageMount.Fuse.Tests.Mount;

public sealed class MountTableTests
{
    [Fact]
    public void Line_with_octal_escapes_and_tags_is_understood()
    {
        const string Text = """
            36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
            40 35 0:39 / /tmp/a\040b\134c\011d rw,nosuid,nodev - fuse.imgmount /img\040s/x.vmdk rw,user_id=0
            41 35 0:40 / /tmp/r ro shared:1 master:2 propagate_from:3 - fuse.imgmount x rw
            """;
        IReadOnlyList<MountEntry> mounts = MountTable.Parse(Encoding.UTF8.GetBytes(Text));
        Assert.Equal(3, mounts.Count);
        Assert.Equal(
            new MountEntry(40, "0:39", "/", "/tmp/a b\\c\td", "rw,nosuid,nodev", "fuse.imgmount", "/img s/x.vmdk"),
            mounts[1]);
        Assert.Equal(39, mounts[1].Minor);
        Assert.False(mounts[1].IsReadOnly);
        Assert.True(mounts[2].IsReadOnly);
        Assert.Equal("ext3", mounts[0].Type);
    }

    [Fact]
    public void Path_in_utf8_survives()
    {
        MountEntry entry = Assert.Single(MountTable.Parse("1 2 0:3 / /mnt/bücher rw - fuse.imgmount ж.qcow2 rw"u8));
        Assert.Equal("/mnt/bücher", entry.MountPoint);
        Assert.Equal("ж.qcow2", entry.Source);
    }

    [Theory]
    [InlineData("")]
    [InlineData("garbage")]
    [InlineData("x 35 0:39 / /tmp rw - fuse.imgmount x rw")]
    [InlineData("1 35 039 / /tmp rw - fuse.imgmount x rw")]
    [InlineData("1 35 0:39 / /tmp rw fuse.imgmount x rw")]
    [InlineData("1 35 0:39 / /tmp rw - fuse.imgmount")]
    [InlineData("1 - 0:39 / - rw - a")]
    public void Line_of_another_form_is_left_out(string line) =>
        Assert.Empty(MountTable.Parse(Encoding.UTF8.GetBytes(line)));

    [Fact]
    public void Own_table_has_a_root() => Assert.Contains(MountTable.Read(), m => m.MountPoint == "/");

    [Fact]
    public void Ordinary_directory_is_no_dead_mount()
    {
        Assert.False(MountTable.IsDeadMount("/"));
        Assert.False(MountTable.IsDeadMount("/does/not/exist"));
        Assert.False(MountTable.TryDetachDead("/"));
    }
}
