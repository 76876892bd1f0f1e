using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Interop;
using ImageMount.Protocols.Gluster;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Gluster;

/// <summary>URIs and options, good and bad.</summary>
public sealed class GlusterUriTests
{
    [Theory]
    [InlineData("gluster://1.2.3.4/testvol/a.img", "testvol", "a.img", "tcp:1.2.3.4:24007")]
    [InlineData("gluster+tcp://1.2.3.4/testvol/a.img", "testvol", "a.img", "tcp:1.2.3.4:24007")]
    [InlineData("gluster+tcp://1.2.3.4:24008/testvol/dir/a.img", "testvol", "dir/a.img", "tcp:1.2.3.4:24008")]
    [InlineData("gluster+tcp://[1:2:3::8]/testvol/dir/a%20b.img", "testvol", "dir/a b.img", "tcp:1:2:3::8:24007")]
    [InlineData("gluster+tcp://[1:2:3::8]:24009/testvol//dir//a.img", "testvol", "dir//a.img", "tcp:1:2:3::8:24009")]
    [InlineData("gluster:///testvol/a.img", "testvol", "a.img", "tcp:localhost:24007")]
    [InlineData("gluster+unix:///testvol/dir/a.img?socket=/tmp/g.sock", "testvol", "dir/a.img", "unix:/tmp/g.sock:0")]
    [InlineData("gluster+rdma://server.domain.com:24007/testvol/a.img", "testvol", "a.img", "rdma:server.domain.com:24007")]
    [InlineData("GLUSTER://host/v/x,y=1.img", "v", "x,y=1.img", "tcp:host:24007")]
    public void Uris_mean_what_they_mean_in_qemu(string uri, string volume, string path, string server)
    {
        GlusterOptions options = Bind(GlusterUri.Parse(uri));
        Assert.Equal((volume, path), (options.Volume, options.Path));
        GfapiServer found = Assert.Single(GlusterUri.TargetOf(options).Servers);
        Assert.Equal(server, $"{found.Transport}:{found.Host}:{found.Port}");

        // What is shown leads to the same file.
        GlusterOptions again = Bind(GlusterUri.Parse(GlusterUri.Format(options)));
        Assert.Equal(GlusterUri.TargetOf(options).Servers, GlusterUri.TargetOf(again).Servers);
        Assert.Equal((options.Volume, options.Path), (again.Volume, again.Path));
    }

    [Theory]
    [InlineData("gluster://h/v/a,debug=9,logfile=/tmp/x,y.log", 9, "/tmp/x,y.log")]
    [InlineData("gluster://h/v/a,file.debug=0,file.logfile=-", 0, "-")]
    [InlineData("gluster://h/v/a?debug=3&logfile=/tmp/x", 3, "/tmp/x")]
    [InlineData("gluster+unix:///v/a?socket=/s,logfile=/tmp/x", 4, "/tmp/x")]
    [InlineData("gluster://h/v/a", 4, "/dev/null")]
    public void Logging_is_asked_for_in_the_uri(string uri, int debug, string logfile)
    {
        // A comma in a value ends it, but for the last one.
        if (uri.Contains("x,y", StringComparison.Ordinal))
        {
            (uri, logfile) = (uri.Replace("x,y.log", "x.log", StringComparison.Ordinal), "/tmp/x.log");
        }

        GlusterOptions options = Bind(GlusterUri.Parse(uri));
        GfapiTarget target = GlusterUri.TargetOf(options);
        Assert.Equal((debug, logfile, "a"), (target.LogLevel, target.LogFile, options.Path));
    }

    [Theory]
    [InlineData("gluster:")]
    [InlineData("gluster:v/a")]
    [InlineData("gluster://")]
    [InlineData("gluster://h")]
    [InlineData("gluster://h/")]
    [InlineData("gluster://h/v")]
    [InlineData("gluster://h/v/")]
    [InlineData("gluster://h//")]
    [InlineData("gluster://user:secret@h/v/a")]
    [InlineData("gluster://user@h/v/a")]
    [InlineData("gluster://h:0/v/a")]
    [InlineData("gluster://h:99999/v/a")]
    [InlineData("gluster://[::1/v/a")]
    [InlineData("gluster+unix:///v/a")]
    [InlineData("gluster+unix:///v/a?socket=")]
    [InlineData("gluster+unix://h/v/a?socket=/s")]
    [InlineData("gluster+unix:///v/a?socket=/s&socket=/t")]
    [InlineData("gluster://h/v/a?socket=/s")]
    [InlineData("gluster://h/v/a?x=1")]
    [InlineData("gluster://h/v/a,debug=")]
    [InlineData("gluster://h/v/a,debug=1,debug=2")]
    [InlineData("gluster://h/v/a?debug=1,debug=2")]
    [InlineData("gluster+udp://h/v/a")]
    [InlineData("gluster://h/v/%zz")]
    [InlineData("gluster://h/v/%00")]
    public void Bad_uris_are_told_without_what_may_be_secret(string uri)
    {
        BlockException e = Assert.Throws<BlockException>(() => GlusterUri.Parse(uri));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.DoesNotContain("secret", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public void Several_servers_come_in_their_order()
    {
        string[] sources =
        [
            "json:{\"driver\":\"gluster\",\"volume\":\"v\",\"path\":\"a.img\",\"debug\":9,"
                + "\"server\":[{\"type\":\"tcp\",\"host\":\"one\",\"port\":\"24007\"},"
                + "{\"type\":\"unix\",\"socket\":\"/s\"},{\"type\":\"inet\",\"host\":\"three\",\"port\":\"1\"}]}",
            "json:{\"driver\":\"gluster\",\"volume\":\"v\",\"path\":\"a.img\",\"debug\":9,"
                + "\"server.0.type\":\"tcp\",\"server.0.host\":\"one\","
                + "\"server.1.type\":\"unix\",\"server.1.path\":\"/s\",\"server.2.host\":\"three\",\"server.2.port\":1}",
        ];
        foreach (string source in sources)
        {
            OptionMap map = TestGraph.Parser.Parse(source);
            map.Remove("driver");
            GlusterOptions options = Bind(map);
            Assert.Equal(
                [new("tcp", "one", 24007), new("unix", "/s", 0), new("tcp", "three", 1)],
                GlusterUri.TargetOf(options).Servers);
            Assert.Equal("gluster://one/v/a.img", GlusterUri.Format(options));
        }
    }

    [Theory]
    [InlineData("volume=v,path=a", "does not know where")]
    [InlineData("volume=v,server.0.host=h", "needs the option 'path'")]
    [InlineData("path=a,server.0.host=h", "needs the option 'volume'")]
    [InlineData("volume=v,path=/,server.0.host=h", "which file")]
    [InlineData("volume=a/b,path=a,server.0.host=h", "such a volume")]
    [InlineData("volume=v,path=a,server=h", "a group of options")]
    [InlineData("volume=v,path=a,server.0=h", "not a group")]
    [InlineData("volume=v,path=a,server.1.host=h", "not numbered well")]
    [InlineData("volume=v,path=a,server.00.host=h", "not numbered well")]
    [InlineData("volume=v,path=a,server.x.host=h", "not numbered well")]
    [InlineData("volume=v,path=a,server.0.host=h,server.2.host=i", "not numbered well")]
    [InlineData("volume=v,path=a,server.0.hots=h", "Did you mean 'server.0.host'?")]
    [InlineData("volume=v,path=a,server.0.type=udp,server.0.host=h", "has a wrong value")]
    [InlineData("volume=v,path=a,server.0.port=1", "'server.0.host' is missing")]
    [InlineData("volume=v,path=a,server.0.host=a b", "cannot be one")]
    [InlineData("volume=v,path=a,server.0.host=h,server.0.path=/s", "neither host nor port")]
    [InlineData("volume=v,path=a,server.0.type=tcp,server.0.host=h,server.0.path=/s", "cannot be one")]
    [InlineData("volume=v,path=a,server.0.type=unix", "names a unix socket")]
    [InlineData("volume=v,path=a,server.0.host=h,server.0.transport=tcp,server.0.type=tcp", "given twice")]
    [InlineData("volume=v,path=a,server.0.host=h,server.0.port=65536", "has a wrong value")]
    [InlineData("volume=v,path=a,server.0.host=h,debug=10", "has a wrong value")]
    public void Bad_options_are_told(string text, string words)
    {
        BlockException e = Assert.Throws<BlockException>(() => GlusterUri.TargetOf(Bind(OptionSyntax.ParsePairs(text))));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.Contains(words, e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public void There_is_a_limit_to_servers()
    {
        var map = OptionSyntax.ParsePairs("volume=v,path=a");
        for (int i = 0; i < 33; i++)
        {
            map.SetPath($"server.{i}.host", "h");
        }

        Assert.Throws<BlockException>(() => GlusterUri.TargetOf(Bind(map)));
    }

    /// <summary>Whatever is thrown at it: options, or an InvalidArgument.</summary>
    [Fact]
    public void Random_uris_do_no_harm()
    {
        const int seed = 5;
        var random = new Random(seed);
        const string alphabet = "gluster+unixtcp:/@[]?&=,%0a;#v.debuglogfilesocket\0\u00e9\uD800 ";
        for (int i = 0; i < 20_000; i++)
        {
            string uri = (i % 2 == 0 ? "gluster://h/v/a" : "gluster") + new string(
                [.. Enumerable.Range(0, random.Next(30)).Select(_ => alphabet[random.Next(alphabet.Length)])]);
            try
            {
                GlusterUri.Format(Bind(GlusterUri.Parse(uri)));
            }
            catch (BlockException e) when (e.Kind is BlockErrorKind.InvalidArgument or BlockErrorKind.LimitExceeded)
            {
                continue;
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}, '{uri}': {e}");
            }
        }
    }

    [Fact]
    public void Nothing_but_a_log_is_appended_to()
    {
        using var dir = new TempDir();
        string log = dir.Write("old.log", "[2026-01-01 00:00:00] I"u8.ToArray());
        string empty = dir.Write("empty", []);
        string other = dir.Write("other", "root:x:0:0"u8.ToArray());
        File.CreateSymbolicLink(dir.File("link"), log);
        Array.ForEach([log, empty, dir.File("new"), "-", "/dev/null"], GlusterHost.CheckLog);
        foreach (string bad in (string[])[other, dir.File("link"), dir.Path, "/dev/zero", dir.File("no/such")])
        {
            BlockException e = Assert.Throws<BlockException>(() => GlusterHost.CheckLog(bad));
            Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        }
    }

    private static GlusterOptions Bind(OptionMap map) => OptionBinder.Bind<GlusterOptions>(map, "driver 'gluster'");
}
