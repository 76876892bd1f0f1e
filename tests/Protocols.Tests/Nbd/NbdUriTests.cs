using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Protocols.Nbd;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>Every way to write a server, and what is refused.</summary>
public sealed class NbdUriTests
{
    [Theory]
    [InlineData("nbd://example.com/disk", "nbd://example.com:10809/disk")]
    [InlineData("nbd://example.com:1234", "nbd://example.com:1234/")]
    [InlineData("NBD://[::1]:1234/a%20b", "nbd://[::1]:1234/a%20b")]
    [InlineData("nbd:///x", "nbd://localhost:10809/x")]
    [InlineData("nbd+tcp://h/x/y", "nbd://h:10809/x/y")]
    [InlineData("nbds://alice@h/x?tls-psk-file=%2Fk", "nbds://h:10809/x")]
    [InlineData("nbd+unix:///e?socket=/run/n.sock", "nbd+unix:///e?socket=/run/n.sock")]
    [InlineData("nbds+unix:///?socket=/a%26b", "nbds+unix:///?socket=/a%26b")]
    [InlineData("nbd:h:1234", "nbd://h:1234/")]
    [InlineData("nbd:[::1]:1234:exportname=a:b", "nbd://[::1]:1234/a%3Ab")]
    [InlineData("nbd:unix:/run/n:exportname=e", "nbd+unix:///e?socket=/run/n")]
    public void Address_is_understood(string text, string canonical)
    {
        OptionMap map = TestGraph.Parser.ParseProtocol(text);
        map.Remove("driver");
        Assert.Equal(canonical, NbdUri.Format(OptionBinder.Bind<NbdOptions>(map, "nbd")));
    }

    [Theory]
    [InlineData("server.type=inet,server.host=h,server.port=7,export=e", "nbd://h:7/e")]
    [InlineData("server.type=unix,server.path=/s,export=e", "nbd+unix:///e?socket=/s")]
    [InlineData("host=h,port=7", "nbd://h:7/")]
    [InlineData("path=/s", "nbd+unix:///?socket=/s")]
    public void Options_are_understood(string text, string canonical) => Assert.Equal(
        canonical, NbdUri.Format(OptionBinder.Bind<NbdOptions>(OptionSyntax.ParsePairs(text), "nbd")));

    [Theory]
    [InlineData("nbd://h:0/")]
    [InlineData("nbd://h:65536/")]
    [InlineData("nbd://h:x/")]
    [InlineData("nbd://[::1/")]
    [InlineData("nbd://[::1]x/")]
    [InlineData("nbd://h/%4")]
    [InlineData("nbd://h/%00")]
    [InlineData("nbd://h/%ff")]
    [InlineData("nbd://user:hunter2@h/")]
    [InlineData("nbds://user:hunter2@h/")]
    [InlineData("nbd://hunter2@h/")]
    [InlineData("nbd://h/?socket=/s")]
    [InlineData("nbd+unix:///x")]
    [InlineData("nbd+unix://h/x?socket=/s")]
    [InlineData("nbd+unix:///?socket=/a&socket=/b")]
    [InlineData("nbd://h/?tls-psk-file=/x")]
    [InlineData("nbd:h")]
    [InlineData("nbd:unix:")]
    public void What_is_wrong_is_refused_without_showing_it(string text)
    {
        BlockException e = Assert.Throws<BlockException>(() => TestGraph.Parser.ParseProtocol(text));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.DoesNotContain("hunter2", e.Describe());
    }

    [Theory]
    [InlineData("path=/s,host=h")]
    [InlineData("path=/s,server.type=inet")]
    [InlineData("path=")]
    [InlineData("server.type=unix")]
    [InlineData("export=e")]
    public void Contradicting_options_are_refused(string text) => Assert.Throws<BlockException>(
        () => NbdUri.AddressOf(OptionBinder.Bind<NbdOptions>(OptionSyntax.ParsePairs(text), "nbd")));
}
