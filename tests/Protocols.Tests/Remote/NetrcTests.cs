using ImageMount.Core.Graph;
using ImageMount.Protocols.Remote;
using Xunit;

namespace ImageMount.Protocols.Tests.Remote;

public class NetrcTests
{
    private const string Text = """
        # machine a login comment password no
        machine a login one password first
        machine A
          account x
          login two password "sec\"ond word"
        macdef init
        machine a login macro password no

        machine b password only
        default login three password third
        machine a login four password fourth
        """;

    [Theory]
    [InlineData("a", null, "one", "first")]
    [InlineData("a", "two", "two", "sec\"ond word")]
    [InlineData("a", "three", "three", "third")]
    [InlineData("b", null, "three", "third")]
    [InlineData("a", "four", "four", "fourth")]
    public void The_first_entry_that_fits_counts(string host, string? user, string login, string password) =>
        Assert.Equal((login, password), Netrc.FindIn(Text, host, user));

    [Theory]
    [InlineData("a", "macro")]
    [InlineData("b", "comment")]
    public void What_is_no_entry_is_not_found(string host, string user) => Assert.Null(Netrc.FindIn(Text, host, user));

    [Theory]
    [InlineData("")]
    [InlineData("machine")]
    [InlineData("machine a login")]
    [InlineData("machine a login x password")]
    [InlineData("login x password y")]
    [InlineData("machine a login \"x password y")]
    public void Unfinished_files_are_harmless(string text) => Assert.Null(Netrc.FindIn(text, "a", null));

    [Theory]
    [InlineData("http://alice:pw@h/x?token=1", "http://h/x?…")]
    [InlineData("http://al@h/x", "http://al@h/x")]
    [InlineData("ftp://a:p@b@h/x", "ftp://h/x")]
    [InlineData("json:{\"url\":\"https://a:b@h/?q\",\"cookie\":\"id=1; b=2\"}", "json:{\"url\":\"https://h/?…\",\"cookie\":\"…\"}")]
    [InlineData("driver=http,url=http://a:b@h/x,cookie=a=b", "driver=http,url=http://h/x,cookie=…")]
    [InlineData("iscsi://user%pass@h/iqn/1", "iscsi://h/iqn/1")]
    [InlineData("nbd+unix:///e?socket=/run/s", "nbd+unix:///e?socket=/run/s")]
    [InlineData("/home/me@host/disk", "/home/me@host/disk")]
    public void Secrets_are_not_shown(string source, string shown) => Assert.Equal(shown, ShownSource.Of(source));
}
