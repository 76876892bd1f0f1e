using ImageMount.Fuse.Mount;

namespace ImageMount.Fuse.Tests.Mount;

public sealed class MountPointTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("fuse-point-").FullName;

    [Fact]
    public void Missing_mount_point_says_so_and_what_to_do()
    {
        FuseMountException e = Fails(Path.Join(_directory, "no"), FuseMountFailure.MountPointMissing);
        Assert.Contains("mkdir", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Directory_that_is_not_empty_is_refused_unless_allowed()
    {
        File.WriteAllText(Path.Join(_directory, "x"), "");
        Fails(_directory, FuseMountFailure.MountPointNotEmpty);
        Assert.False(MountPoint.Check(_directory, allowNonEmpty: true).IsFile);
    }

    [Fact]
    public void Regular_file_is_a_mount_point_of_file_mode()
    {
        string file = Path.Join(_directory, "x");
        File.WriteAllText(file, "");
        Assert.Equal(new MountPoint(file, 0x8000), MountPoint.Check(file));
    }

    [Fact]
    public void Device_is_the_wrong_type() => Fails("/dev/null", FuseMountFailure.MountPointWrongType);

    [Fact]
    public void Symlinks_and_dots_are_resolved()
    {
        string real = Directory.CreateDirectory(Path.Join(_directory, "real")).FullName;
        File.CreateSymbolicLink(Path.Join(_directory, "l1"), "real");
        File.CreateSymbolicLink(Path.Join(_directory, "l2"), Path.Join(_directory, "l1"));
        Assert.Equal(real, MountPoint.Check(Path.Join(_directory, "l2", ".", "..", "l2")).Path);
    }

    [Fact]
    public void Symlink_loop_is_an_error_and_no_hang()
    {
        File.CreateSymbolicLink(Path.Join(_directory, "a"), "b");
        File.CreateSymbolicLink(Path.Join(_directory, "b"), "a");
        Fails(Path.Join(_directory, "a"), FuseMountFailure.Other);
    }

    [Fact]
    public void Missing_helper_names_the_package()
    {
        FuseMountException e = Assert.Throws<FuseMountException>(
            () => Fusermount.Start("/mnt/x", ["-u", "/mnt/x"], null, "fusermount3-that-is-not-installed"));
        Assert.Equal(FuseMountFailure.NoFusermount, e.Failure);
        Assert.Contains("apt install fuse3", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("user_allow_other\n", true)]
    [InlineData("# a comment\n  user_allow_other  \n", true)]
    [InlineData("#user_allow_other\n", false)]
    [InlineData("mount_max = 10\n", false)]
    [InlineData("", false)]
    public void Fuse_conf_is_read_as_fusermount3_reads_it(string text, bool allows)
    {
        string file = Path.Join(_directory, "fuse.conf");
        File.WriteAllText(file, text);
        Assert.Equal(allows, FuseConf.AllowsOther(file));
    }

    [Fact]
    public void Fuse_conf_that_is_missing_allows_nothing() =>
        Assert.False(FuseConf.AllowsOther(Path.Join(_directory, "no")));

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static FuseMountException Fails(string path, FuseMountFailure failure)
    {
        FuseMountException e = Assert.Throws<FuseMountException>(() => MountPoint.Check(path));
        Assert.Equal(failure, e.Failure);
        return e;
    }
}
