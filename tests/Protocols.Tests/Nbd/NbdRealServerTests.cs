using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>Against the servers that people run.</summary>
public sealed class NbdRealServerTests : NbdTestBase
{
    private readonly List<NbdServer> _servers = [];

    public override void Dispose()
    {
        _servers.ForEach(server => server.Dispose());
        base.Dispose();
    }

    [SkippableTheory]
    [InlineData("qemu-nbd")]
    [InlineData("nbdkit")]
    [InlineData("nbdkit --no-sr")]
    [InlineData("nbdkit -o")]
    [InlineData("nbdkit --mask-handshake=0")]
    [InlineData("nbd-server")]
    public async Task Reads_and_writes_agree_with_the_file(string kind)
    {
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        (NbdServer server, string export) = Serve(kind, file);
        await using (Graph graph = await OpenAsync(server.Uri(export), writable: true, options: ("open-timeout", "10")))
        {
            await AssertContentAsync(graph.Root, model, kind);
            if (kind == "nbdkit -o")
            {
                return; // In the old style nbdkit 1.32 offers flushes and refuses each, so writing is no use.
            }

            TestPattern.Fill(model.AsSpan(70_000, 200_000), 70_000, 2);
            await graph.Root.WriteAsync(70_000, model.AsMemory(70_000, 200_000));
            model.AsSpan(300_000, 40_000).Clear();
            await graph.Root.ZeroAsync(300_000, 40_000, ZeroFlags.MayUnmap);
            await graph.Root.FlushAsync();
            await AssertContentAsync(graph.Root, model, kind);
        }

        byte[] found = await File.ReadAllBytesAsync(file);
        TestPattern.AssertEqual(model, found, 0, $"{kind}: the file");
    }

    [SkippableFact]
    public async Task A_qcow2_over_nbd_with_its_parent_in_a_file_is_the_same_as_locally()
    {
        Require.Tool("qemu-img");
        byte[] content = MakeContent();
        string parent = Dir.Write("parent.raw", content);
        string overlay = Dir.File("overlay.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", parent, "-F", "raw", overlay);
        Qemu.Io("qcow2", overlay, "write -P 7 64k 100k", "write -z 300k 64k");
        NbdServer server = Keep(NbdServer.Qemu(Dir, overlay, "-f", "raw", "-r"));
        await using Graph local = await TestGraph.OpenAsync(overlay);
        await using Graph remote = await TestGraph.OpenAsync(server.Uri(), new OpenFlags { AllowExternal = true });
        Assert.Equal("qcow2", remote.Image.Driver);
        var expected = new byte[local.Root.Length];
        await local.Root.ReadAsync(0, expected);
        await AssertContentAsync(remote.Root, expected, "over nbd");

        // And the other way round: an overlay in a file over a parent behind nbd, written, and read back by qemu.
        server.Kill();
        NbdServer below = Keep(NbdServer.Qemu(Dir, parent, "-f", "raw", "-r"));
        string top = Dir.File("top.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", below.Uri(), "-F", "raw", top);
        await using (Graph graph = await TestGraph.OpenAsync(
            top, new OpenFlags { AllowExternal = true, Writable = true }))
        {
            TestPattern.Fill(content.AsSpan(1000, 90_000), 1000, 8);
            await graph.Root.WriteAsync(1000, content.AsMemory(1000, 90_000));
            await AssertContentAsync(graph.Root, content, "overlay over nbd");
        }

        string flat = Dir.Write("flat.raw", content);
        Qemu.Img("compare", "-f", "qcow2", "-F", "raw", top, flat);
    }

    [SkippableFact]
    public async Task An_export_that_is_not_there_is_told_with_those_that_are()
    {
        Dir.Write("a.raw", new byte[4096]);
        Dir.Write("b.raw", new byte[8192]);
        NbdServer server = Keep(NbdServer.Kit(
            Dir, "--filter=exportname", "file", $"dir={Dir.Path}", "exportname-strict=true", "exportname-list=explicit",
            "exportname=a.raw", "exportname=b.raw"));
        await using Graph graph = await OpenAsync(server.Uri("b.raw"));
        Assert.Equal(8192, graph.Root.Length);
        await AssertRefusedAsync(BlockErrorKind.NotFound, "'a.raw', 'b.raw'", () => OpenAsync(server.Uri("c.raw")));
    }

    [SkippableFact]
    public async Task Holes_of_the_file_are_seen()
    {
        byte[] content = MakeContent();
        string file = Dir.WriteSparse("sparse.raw", content.Length);
        await using (FileStream stream = File.OpenWrite(file))
        {
            await stream.WriteAsync(content.AsMemory(0, 65536));
        }

        NbdServer server = Keep(NbdServer.Qemu(Dir, file, "-f", "raw", "-r"));
        await using Graph graph = await OpenAsync(server.Uri());
        BlockExtent data = await graph.Root.MapAsync(0, graph.Root.Length);
        Assert.Equal((65536L, true), (data.Length, data.IsData));
        BlockExtent hole = await graph.Root.MapAsync(data.Length, graph.Root.Length - data.Length);
        Assert.Equal((graph.Root.Length - 65536, true, false), (hole.Length, hole.IsZero, hole.IsData));
    }

    [SkippableFact]
    public async Task A_server_on_tcp_is_reached_by_every_form_of_its_address()
    {
        byte[] content = MakeContent();
        Keep(NbdServer.KitOnTcp(Dir, out int port, "file", Dir.Write("disk.raw", content)));
        foreach (string uri in (string[])
            [$"nbd://127.0.0.1:{port}/", $"nbd://localhost:{port}", $"nbd:127.0.0.1:{port}", $"nbd+tcp://127.0.0.1:{port}/"])
        {
            await using Graph graph = await OpenAsync(uri, writable: true);
            await AssertContentAsync(graph.Root, content, uri);
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(() => OpenAsync("nbd://127.0.0.1:1/"));
        Assert.Contains("nobody listens", e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task A_dirty_bitmap_shows_what_was_written()
    {
        Require.Tool("qemu-img");
        string image = Dir.File("bitmap.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", image, "1M");
        Qemu.Img("bitmap", "--add", "--enable", image, "b0");
        Qemu.Io("qcow2", image, "write 128k 64k");
        NbdServer server = Keep(NbdServer.Qemu(Dir, image, "-f", "qcow2", "-r", "-B", "b0"));
        await using Graph graph = await OpenAsync(
            server.Uri(), options: ("x-dirty-bitmap", "qemu:dirty-bitmap:b0"));
        BlockExtent clean = await graph.Root.MapAsync(0, graph.Root.Length);
        Assert.Equal((128L << 10, true), (clean.Length, clean.IsData));
        BlockExtent dirty = await graph.Root.MapAsync(clean.Length, graph.Root.Length - clean.Length);
        Assert.Equal((64L << 10, false, false), (dirty.Length, dirty.IsData, dirty.IsZero));
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "b1", () => OpenAsync(server.Uri(), options: ("x-dirty-bitmap", "qemu:dirty-bitmap:b1")));
    }

    [SkippableFact]
    public async Task Killed_and_started_again_during_writes_nothing_acknowledged_is_lost()
    {
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        NbdServer server = Keep(NbdServer.Qemu(Dir, file, "-f", "raw", "--cache=writeback"));
        await using (Graph graph = await OpenAsync(server.Uri(), writable: true))
        {
            using var done = new CancellationTokenSource();
            var killing = Task.Run(() =>
            {
                for (int i = 0; i < 6 && !done.IsCancellationRequested; i++)
                {
                    SpinWait.SpinUntil(() => done.IsCancellationRequested, 40);
                    server.Restart();
                }
            });
            for (int i = 0; i < 300 || !killing.IsCompleted; i++)
            {
                int at = i * 7919 % (model.Length / 512) * 512;
                int count = Math.Min(8192, model.Length - at);
                TestPattern.Fill(model.AsSpan(at, count), at, i);
                await graph.Root.WriteAsync(at, model.AsMemory(at, count)).AsTask().WaitAsync(Limit);
            }

            await done.CancelAsync();
            await killing;
            await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
            await AssertContentAsync(graph.Root, model, "after restarts");
        }

        byte[] found = await File.ReadAllBytesAsync(file);
        TestPattern.AssertEqual(model, found, 0, "the file after restarts");
    }

    [SkippableFact]
    public async Task Stopped_and_continued_the_disk_goes_on()
    {
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        NbdServer server = Keep(NbdServer.Qemu(Dir, file, "-f", "raw"));
        await using Graph graph = await OpenAsync(server.Uri(), writable: true, options: ("timeout", "1"));
        server.Stop();
        TestPattern.Fill(model.AsSpan(0, 4096), 0, 77);
        Task write = graph.Root.WriteAsync(0, model.AsMemory(0, 4096)).AsTask();
        Task read = graph.Root.ReadAsync(65536, new byte[4096]).AsTask();
        Assert.False(write.Wait(TimeSpan.FromSeconds(1.5)));
        server.Continue();
        await Task.WhenAll(write, read).WaitAsync(Limit);
        await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
        await AssertContentAsync(graph.Root, model, "after a stop");
    }

    [SkippableFact]
    public async Task A_stopped_server_does_not_hold_up_closing()
    {
        NbdServer server = Keep(NbdServer.Qemu(Dir, Dir.Write("disk.raw", MakeContent()), "-f", "raw"));
        Graph graph = await OpenAsync(server.Uri(), writable: true);
        await graph.Root.WriteAsync(0, new byte[512]);
        server.Stop();
        var watch = Stopwatch.StartNew();
        Task read = graph.Root.ReadAsync(0, new byte[512]).AsTask();
        graph.StopWaiting(TimeSpan.FromSeconds(1));
        await Assert.ThrowsAsync<BlockException>(() => read.WaitAsync(Limit));

        // What was written was not flushed, and cannot be: closing says so.
        await Assert.ThrowsAsync<BlockException>(() => graph.CloseAsync().AsTask().WaitAsync(Limit));
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10), $"{watch.Elapsed}");
    }

    [SkippableFact]
    public async Task Errors_of_the_server_come_and_go()
    {
        string file = Dir.Write("disk.raw", MakeContent());
        string trigger = Dir.Write("fail", [1]);
        NbdServer server = Keep(NbdServer.Kit(
            Dir, "--filter=error", "file", file, "error-pread=EIO", "error-pread-rate=100%", $"error-pread-file={trigger}"));
        await using Graph graph = await OpenAsync(server.Uri());
        await AssertRefusedAsync(BlockErrorKind.IoError, "EIO", async () => await graph.Root.ReadAsync(0, new byte[512]));
        File.Delete(trigger);
        await AssertContentAsync(graph.Root, MakeContent(), "after errors");
    }

    [SkippableFact]
    public async Task A_slow_server_is_read_ahead_of()
    {
        NbdServer server = Keep(NbdServer.Kit(
            Dir, "-t", "64", "--filter=delay", "pattern", "8M", "rdelay=20ms"));
        await using Graph graph = await OpenAsync(server.Uri());
        var watch = Stopwatch.StartNew();
        var buffer = new byte[16 << 10];
        for (long at = 0; at < 4 << 20; at += buffer.Length)
        {
            await graph.Root.ReadAsync(at, buffer);
            Assert.Equal((ulong)at, System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(buffer));
        }

        // 256 reads of 20 ms would be more than 5 seconds.
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2.5), $"{watch.Elapsed}");
    }

    private (NbdServer Server, string Export) Serve(string kind, string file) => kind switch
    {
        "qemu-nbd" => (Keep(NbdServer.Qemu(Dir, file, "-f", "raw", "-x", "disk")), "disk"),
        "nbd-server" => (Keep(NbdServer.Classic(Dir, ("disk", file))), "disk"),
        _ => (Keep(NbdServer.Kit(Dir, [.. kind.Split(' ')[1..], "file", file])), ""),
    };

    private NbdServer Keep(NbdServer server)
    {
        _servers.Add(server);
        return server;
    }
}
