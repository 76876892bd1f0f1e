using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Protocols.Ssh;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>URIs, host keys in options, and the arguments that ssh gets.</summary>
public sealed class SshUriTests
{
    private static readonly SshOptions Plain = new() { Host = "h", Path = "/p" };

    [Fact]
    public void A_uri_becomes_options()
    {
        OptionMap map = SshUri.Parse("ssh://some%40one@[::1]:2222/a%20b/c.raw?host_key_check=no");
        Assert.True(map.Contains("host_key_check"));
        Assert.Equal(
            "ssh://u@[::1]:22/a%20b",
            SshUri.Format(new SshOptions { Host = "::1", Port = 22, User = "u", Path = "/a b", HostKeyCheck = "no" }));
    }

    [Theory]
    [InlineData("ssh://h")]
    [InlineData("ssh://h/")]
    [InlineData("ssh:///p")]
    [InlineData("ssh:h/p")]
    [InlineData("ssh://u:secret@h/p")]
    [InlineData("ssh://h/p?host_key_check=no&host_key_check=yes")]
    [InlineData("ssh://h/p?other=1")]
    public void A_wrong_uri_is_refused_without_showing_it(string uri)
    {
        BlockException e = Assert.Throws<BlockException>(() => SshUri.Parse(uri));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.DoesNotContain("secret@", e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("-oProxyCommand=x", null)]
    [InlineData("h;x", null)]
    [InlineData("$(x)", null)]
    [InlineData("a b", null)]
    [InlineData("u@h", null)]
    [InlineData("h\n", null)]
    [InlineData("h", "-x")]
    [InlineData("h", "`x`")]
    [InlineData("h", "a'b")]
    [InlineData("h", "a\n")]
    [InlineData("h", "")]
    public void What_ssh_or_a_shell_would_take_for_something_else_is_refused(string host, string? user) =>
        Assert.Throws<BlockException>(() => SshUri.Check(Plain with { Host = host, User = user }));

    [Theory]
    [InlineData("yes", "KnownHosts", "")]
    [InlineData("no", "None", "")]
    [InlineData("md5:00:11:22:33:44:55:66:77:88:99:AA:bb:cc:dd:ee:ff", "Hash", "00112233445566778899aabbccddeeff")]
    [InlineData("sha1:000102030405060708090a0b0c0d0e0f10111213", "Hash", "000102030405060708090a0b0c0d0e0f10111213")]
    [InlineData("SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "Hash",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")]
    public void Checks_of_the_host_key_are_understood(string word, string mode, string hex)
    {
        SshHostKey key = SshHostKey.Of(Plain with { HostKeyCheck = word });
        Assert.Equal(mode, key.Mode.ToString());
        Assert.Equal(hex, key.Hex);
    }

    [Theory]
    [InlineData("maybe")]
    [InlineData("yes:1")]
    [InlineData("md5")]
    [InlineData("md5:00")]
    [InlineData("sha256:zz")]
    [InlineData("sha1:$(touch /tmp/x)*90a0b0c0d0e0f1011121314")]
    public void Wrong_checks_are_refused(string word) =>
        Assert.Throws<BlockException>(() => SshHostKey.Of(Plain with { HostKeyCheck = word }));

    [Fact]
    public void A_digest_belongs_to_its_mode_and_is_given_once()
    {
        Assert.Throws<BlockException>(() => SshHostKey.Of(Plain with { HostKeyMode = SshHostKeyMode.Hash }));
        Assert.Throws<BlockException>(() => SshHostKey.Of(Plain with { HostKeyHash = "00" }));
        Assert.Throws<BlockException>(
            () => SshHostKey.Of(Plain with { HostKeyCheck = "yes", HostKeyMode = SshHostKeyMode.None }));
    }

    [Fact]
    public void The_host_comes_last_and_ssh_asks_nobody()
    {
        IReadOnlyList<string> arguments =
            new SshConnector(Plain with { User = "u", Port = 5 }, new Core.Secrets.SecretStore()).Arguments(false);
        Assert.Equal(["-p", "5", "-l", "u", "-s", "--", "h", "sftp"], arguments.TakeLast(8));
        Assert.Contains("BatchMode=yes", arguments);
        Assert.Contains("StrictHostKeyChecking=yes", arguments);
        Assert.Contains("ControlPath=none", arguments);
    }
}
