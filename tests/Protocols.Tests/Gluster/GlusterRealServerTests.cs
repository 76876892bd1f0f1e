using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop;
using ImageMount.Protocols.Gluster;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Gluster;

/// <summary>One server for all the tests with a real one: it takes seconds to start.</summary>
public sealed class GlusterFixture : IDisposable
{
    private readonly Lazy<GlusterServer> _server = new(() => new GlusterServer());

    /// <summary>The server; skips the test where there is none.</summary>
    public GlusterServer Server => _server.Value;

    public void Dispose()
    {
        if (_server.IsValueCreated)
        {
            _server.Value.Dispose();
        }
    }
}

/// <summary>Tests that share the server, one after the other.</summary>
[CollectionDefinition(Name)]
public sealed class GlusterCollection : ICollectionFixture<GlusterFixture>
{
    public const string Name = "a real GlusterFS";
}

/// <summary>With real glusterd, brick and libgfapi.</summary>
[Collection(GlusterCollection.Name)]
public sealed class GlusterRealServerTests(GlusterFixture fixture) : GlusterTestBase, IDisposable
{
    private readonly TempDir _dir = new();

    public void Dispose() => _dir.Dispose();

    [SkippableFact]
    public async Task A_file_reads_as_it_is_in_any_pieces()
    {
        byte[] content = MakeContent(5_000_001);
        string uri = fixture.Server.Put("pieces.raw", content);
        foreach (string source in (string[])[uri, $"gluster+unix:///vol/pieces.raw?socket={fixture.Server.Socket}"])
        {
            await using Graph graph = await OpenAsync(source);
            await AssertContentAsync(graph, content, "in one");
            var random = new Random(7);
            await Task.WhenAll(Enumerable.Range(0, 200).Select(async _ =>
            {
                int at;
                int count;
                lock (random)
                {
                    at = random.Next(content.Length - 1);
                    count = Math.Min(random.Next(1, 300_000), content.Length - at);
                }

                var found = new byte[count];
                await graph.Root.ReadAsync(at, found).AsTask().WaitAsync(Limit);
                TestPattern.AssertEqual(content.AsSpan(at, count), found, at, "in pieces");
            }));
        }
    }

    [SkippableFact]
    public async Task What_is_written_grown_and_cut_off_is_on_the_brick()
    {
        byte[] content = MakeContent(700_001);
        string uri = fixture.Server.Put("written.raw", content);
        string file = fixture.Server.BrickFile("written.raw");
        await using (Graph graph = await OpenAsync(uri, writable: true))
        {
            TestPattern.Fill(content.AsSpan(1, 600_000), 1, 5);
            await graph.Root.WriteAsync(1, content.AsMemory(1, 600_000)).AsTask().WaitAsync(Limit);
            await graph.Root.FlushAsync();
            Assert.Equal(content, await File.ReadAllBytesAsync(file));
            Assert.True(await graph.Root.TryResizeAsync(6_000_000));
            Array.Resize(ref content, 6_000_000);
            TestPattern.Fill(content.AsSpan(850_000, 3_500_000), 850_000, 6);
            await graph.Root.WriteAsync(850_000, content.AsMemory(850_000, 3_500_000)).AsTask().WaitAsync(Limit);
            await AssertContentAsync(graph, content, "grown");
            Assert.True(await graph.Root.TryResizeAsync(880_000));
            Array.Resize(ref content, 880_000);
            await AssertContentAsync(graph, content, "cut off");
        }

        Assert.Equal(content, await File.ReadAllBytesAsync(file));
    }

    [SkippableFact]
    public async Task Zeroing_discarding_and_holes_are_the_bricks()
    {
        byte[] content = MakeContent(4 << 20);
        string uri = fixture.Server.Put("holes.raw", content);
        await using Graph graph = await OpenAsync(uri, writable: true);
        BlockExtent extent = await graph.Root.MapAsync(0, graph.Root.Length);
        Assert.Equal((content.Length, ExtentFlags.Data | ExtentFlags.Present), (extent.Length, extent.Flags));
        await graph.Root.ZeroAsync(1 << 20, 1 << 20, ZeroFlags.MayUnmap);
        await graph.Root.ZeroAsync(3 << 20, 65536, ZeroFlags.None);
        await graph.Root.DiscardAsync(0, 65536);
        content.AsSpan(1 << 20, 1 << 20).Clear();
        content.AsSpan(3 << 20, 65536).Clear();
        content.AsSpan(0, 65536).Clear();
        await AssertContentAsync(graph, content, "zeroed");
        foreach ((int at, int count) in ((int, int)[])[(0, 65536), (1 << 20, 1 << 20)])
        {
            extent = await graph.Root.MapAsync(at, graph.Root.Length - at);
            Assert.Equal((count, ExtentFlags.Zero | ExtentFlags.Present), (extent.Length, extent.Flags));
        }

        await graph.Root.FlushAsync();
        Assert.Equal(content, await File.ReadAllBytesAsync(fixture.Server.BrickFile("holes.raw")));
    }

    [SkippableFact]
    public async Task Random_operations_make_the_disk_that_they_should()
    {
        byte[] initial = MakeContent(400_000);
        int number = 0;
        await new ModelTest
        {
            Initial = initial,
            Seed = 3,
            ResizeGranularity = 1,
            CreateAsync = () =>
            {
                string uri = fixture.Server.Put($"model{++number}.raw", initial);
                return new(flags => new(OpenAsync(uri, flags.Writable)));
            },
        }.RunAsync();
    }

    [SkippableFact]
    public async Task Files_are_made_and_removed_on_the_volume()
    {
        GlusterServer server = fixture.Server;
        BlockDriver driver = TestGraph.Registry.Get("gluster");
        object options = OptionBinder.Bind<GlusterOptions>(GlusterUri.Parse(server.Uri("new.raw")), "test");
        Assert.True(await driver.CreateFileAsync(options, CancellationToken.None));
        Assert.Equal(0, new FileInfo(server.BrickFile("new.raw")).Length);
        await File.WriteAllTextAsync(server.BrickFile("new.raw"), "kept");
        Assert.False(await driver.CreateFileAsync(options, CancellationToken.None));
        Assert.Equal("kept", await File.ReadAllTextAsync(server.BrickFile("new.raw")));
        await driver.DeleteFileAsync(options, CancellationToken.None);
        Assert.False(File.Exists(server.BrickFile("new.raw")));
        await driver.DeleteFileAsync(options, CancellationToken.None);
        options = OptionBinder.Bind<GlusterOptions>(GlusterUri.Parse(server.Uri("no/such/new.raw")), "test");
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "cannot make", () => driver.CreateFileAsync(options, CancellationToken.None).AsTask());
    }

    [SkippableFact]
    public async Task What_is_wrong_is_told()
    {
        GlusterServer server = fixture.Server;
        server.Put("right.raw", MakeContent());
        Directory.CreateDirectory(server.BrickFile("folder"));
        string host = server.Address;
        await AssertRefusedAsync(BlockErrorKind.NotFound, "no such file", () => OpenAsync(server.Uri("wrong.raw")));
        await AssertRefusedAsync(BlockErrorKind.InvalidArgument, "folder", () => OpenAsync(server.Uri("folder")));
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "no started volume 'wrong'", () => OpenAsync($"gluster://{host}/wrong/right.raw"));
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "nobody answers", () => OpenAsync($"gluster://{host}:1/vol/right.raw"));
        await AssertRefusedAsync(
            BlockErrorKind.NotSupported, "RDMA", () => OpenAsync($"gluster+rdma://{host}/vol/right.raw"));

        // The first of the servers is away.
        OptionMap map = OptionSyntax.ParsePairs(
            $"driver=gluster,volume=vol,path=right.raw,server.0.host={host},server.0.port=1,"
            + $"server.1.type=unix,server.1.path={server.Socket}x,server.2.type=tcp,server.2.host={host}");
        await using Graph graph = await TestGraph.Opener.OpenAsync(map, TestGraph.ReadOnly).AsTask().WaitAsync(Limit);
        await AssertContentAsync(graph, MakeContent(), "by the third server");
    }

    [SkippableFact]
    public async Task Qemu_reads_what_we_write_and_we_read_what_it_writes()
    {
        Require.Tool("qemu-img");
        GlusterServer server = fixture.Server;
        byte[] content = MakeContent(3 << 20);
        string raw = _dir.Write("local.raw", content);
        string ours = server.Put("ours.raw", new byte[content.Length]);
        string theirs = server.Put("theirs.raw", new byte[content.Length]);
        await using (Graph graph = await OpenAsync(ours, writable: true))
        {
            await graph.Root.WriteAsync(0, content).AsTask().WaitAsync(Limit);
        }

        // Each takes ten seconds to end, which is the library's way.
        await Task.WhenAll(
            Task.Run(() => Qemu.Img("compare", "-f", "raw", "-F", "raw", raw, ours)),
            Task.Run(() => Qemu.Img("convert", "-n", "-f", "raw", "-O", "raw", raw, theirs)));
        await using Graph graph2 = await OpenAsync(theirs);
        await AssertContentAsync(graph2, content, "qemu's");
    }

    [SkippableFact]
    public async Task A_brick_that_is_killed_in_the_middle_loses_nothing()
    {
        byte[] model = MakeContent(700_000);
        string uri = fixture.Server.Put("killed.raw", model);
        await using (Graph graph = await OpenAsync(uri, writable: true))
        {
            const int part = 20_000;
            for (int round = 0; round < 2; round++)
            {
                Task[] writes = [.. Enumerable.Range(0, 30).Select(i =>
                {
                    int at = (i * part) + round;
                    TestPattern.Fill(model.AsSpan(at, part - 10), at, (round * 100) + i);
                    return graph.Root.WriteAsync(at, model.AsMemory(at, part - 10)).AsTask();
                })];
                if (round > 0)
                {
                    fixture.Server.KillBrick();
                    fixture.Server.StartBrick();
                }

                await Task.WhenAll(writes).WaitAsync(Limit);
            }

            await AssertContentAsync(graph, model, "read back");
        }

        Assert.Equal(model, await File.ReadAllBytesAsync(fixture.Server.BrickFile("killed.raw")));
    }

    /// <summary>The library connects again by itself; what the brick forgot must not stay forgotten.</summary>
    [SkippableFact]
    public async Task A_brick_that_comes_back_unnoticed_without_the_last_write_gets_it_again()
    {
        byte[] model = MakeContent(100_000);
        string uri = fixture.Server.Put("forgot.raw", model);
        string file = fixture.Server.BrickFile("forgot.raw");
        byte[] before = [.. model];
        await using (Graph graph = await OpenAsync(uri, writable: true))
        {
            TestPattern.Fill(model.AsSpan(5000, 50_000), 5000, 9);
            await graph.Root.WriteAsync(5000, model.AsMemory(5000, 50_000));
            fixture.Server.KillBrick();

            // What a host does that loses power; the file stays the same one.
            await using (FileStream stream = File.OpenWrite(file))
            {
                await stream.WriteAsync(before);
            }

            fixture.Server.StartBrick();

            // Another file on the same connection tells when the library is back; this one has asked for nothing.
            string other = fixture.Server.Put("other.raw", before);
            WaitUntil(() => Succeeds(() => ReadAndCloseAsync(other)), "the library is not back");

            await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
            Assert.Equal(model, await File.ReadAllBytesAsync(file));
        }
    }

    [SkippableFact]
    public async Task A_stopped_brick_times_out_and_is_used_again_when_it_goes_on()
    {
        byte[] model = MakeContent(400_000);
        string uri = fixture.Server.Put("stopped.raw", model);
        await using (Graph graph = await OpenAsync(uri, writable: true, ("timeout", "1"), ("reconnect-delay", "1")))
        {
            fixture.Server.StopBrick();
            try
            {
                byte[] lost = new byte[1000];
                await Assert.ThrowsAsync<BlockException>(() => graph.Root.WriteAsync(0, lost).AsTask().WaitAsync(Limit));
                await Assert.ThrowsAsync<BlockException>(
                    () => graph.Root.ReadAsync(5000, new byte[512]).AsTask().WaitAsync(Limit));
            }
            finally
            {
                fixture.Server.ContinueBrick();
            }

            WaitUntil(() => Succeeds(() => graph.Root.ReadAsync(0, new byte[512]).AsTask()), "it did not come back");
            TestPattern.Fill(model.AsSpan(0, 300_000), 0, 4);
            await graph.Root.WriteAsync(0, model.AsMemory(0, 300_000)).AsTask().WaitAsync(Limit);
            await graph.Root.FlushAsync();
            await AssertContentAsync(graph, model, "after it went on");
        }

        Assert.Equal(model, await File.ReadAllBytesAsync(fixture.Server.BrickFile("stopped.raw")));
    }

    [SkippableFact]
    public async Task A_stopped_brick_does_not_hold_up_closing()
    {
        string uri = fixture.Server.Put("closing.raw", MakeContent());
        Graph graph = await OpenAsync(uri, writable: true, ("timeout", "0"));
        fixture.Server.StopBrick();
        try
        {
            Task write = graph.Root.WriteAsync(0, new byte[1000]).AsTask();
            graph.StopWaiting(TimeSpan.FromSeconds(1));
            await Assert.ThrowsAsync<BlockException>(() => write.WaitAsync(Limit));
            await graph.CloseAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(20));
        }
        finally
        {
            fixture.Server.ContinueBrick();
        }
    }

    private static async Task ReadAndCloseAsync(string uri)
    {
        await using Graph graph = await OpenAsync(uri);
        await graph.Root.ReadAsync(0, new byte[512]);
    }

    private static bool Succeeds(Func<Task> act)
    {
        try
        {
            act().Wait(Limit);
            return true;
        }
        catch (AggregateException)
        {
            return false;
        }
    }

    private static Task<Graph> OpenAsync(string uri, bool writable = false, params (string Key, string Value)[] options)
    {
        OptionMap map = TestGraph.Parser.ParseProtocol(uri);
        map.Set("driver", "gluster");
        foreach ((string key, string value) in options)
        {
            map.Set(key, value);
        }

        return TestGraph.Opener.OpenAsync(map, writable ? TestGraph.Writable : TestGraph.ReadOnly).AsTask().WaitAsync(Limit);
    }

    private static async Task AssertContentAsync(Graph graph, byte[] expected, string context)
    {
        Assert.Equal(expected.Length, graph.Root.Length);
        var found = new byte[expected.Length];
        await graph.Root.ReadAsync(0, found).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(expected, found, 0, context);
    }
}
