using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>Against tgtd.</summary>
public sealed class IscsiRealTargetTests(ITestOutputHelper output) : IscsiTestBase
{
    [SkippableTheory]
    [InlineData(512, 1)]
    [InlineData(4096, 2)]
    public async Task Random_reads_and_writes_agree_with_a_model_and_with_the_file(int blockSize, int seed)
    {
        output.WriteLine($"seed {seed}");
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        IscsiServer server = Keep(new IscsiServer()).Add(
            file, 1, "--blocksize", blockSize.ToString(System.Globalization.CultureInfo.InvariantCulture));
        var random = new Random(seed);
        await using (Graph graph = await OpenAsync(server.Uri(), writable: true))
        {
            await AssertContentAsync(graph.Root, model, "at first");
            for (int i = 0; i < 300; i++)
            {
                int at = random.Next(model.Length);
                int count = random.Next(1, Math.Min(random.Next(2) == 0 ? 6000 : 300_000, model.Length - at + 1));
                switch (random.Next(8))
                {
                    case 0:
                        await graph.Root.FlushAsync();
                        break;
                    case 1:
                        model.AsSpan(at, count).Clear();
                        await graph.Root.ZeroAsync(at, count, random.Next(2) == 0 ? ZeroFlags.MayUnmap : ZeroFlags.None);
                        break;
                    case 2 or 3 or 4:
                        var found = new byte[count];
                        await graph.Root.ReadAsync(at, found);
                        TestPattern.AssertEqual(model.AsSpan(at, count), found, at, $"seed {seed}, {i}");
                        break;
                    default:
                        TestPattern.Fill(model.AsSpan(at, count), at, random.Next());
                        await graph.Root.WriteAsync(
                            at, model.AsMemory(at, count), random.Next(4) == 0 ? WriteFlags.Fua : WriteFlags.None);
                        break;
                }
            }

            await graph.Root.FlushAsync();
            await AssertContentAsync(graph.Root, model, "at the end");
        }

        byte[] written = await File.ReadAllBytesAsync(file);
        TestPattern.AssertEqual(model, written, 0, "the file");
    }

    [SkippableFact]
    public async Task Many_requests_at_once_get_the_right_bytes()
    {
        byte[] model = TestPattern.Make(16 << 20, 0, 3);
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("disk.raw", model));
        await using Graph graph = await OpenAsync(server.Uri());
        await Task.WhenAll(Enumerable.Range(0, 400).Select(i => Task.Run(async () =>
        {
            int at = i * 7919 % (model.Length / 512 - 300) * 512;
            var found = new byte[(i % 300 + 1) * 512];
            await graph.Root.ReadAsync(at, found);
            TestPattern.AssertEqual(model.AsSpan(at, found.Length), found, at, $"request {i}");
        }))).WaitAsync(Limit);
    }

    [SkippableFact]
    public async Task What_we_write_is_what_qemu_reads()
    {
        byte[] model = MakeContent(5);
        string file = Dir.Write("disk.raw", new byte[model.Length]);
        IscsiServer server = Keep(new IscsiServer()).Add(file);
        string local = Dir.Write("local.raw", model);
        await using (Graph graph = await OpenAsync(server.Uri(), writable: true))
        {
            await graph.Root.WriteAsync(0, model);
            await graph.Root.FlushAsync();
            Qemu.Img("compare", "-f", "raw", "-F", "raw", local, server.Uri());
        }

        Qemu.Io("raw", server.Uri(), "write -P 9 4k 64k");
        model.AsSpan(4096, 65536).Fill(9);
        await using Graph again = await OpenAsync(server.Uri());
        await AssertContentAsync(again.Root, model, "what qemu wrote");
    }

    [SkippableFact]
    public async Task A_cd_has_blocks_of_2048_bytes_and_is_only_read()
    {
        byte[] content = MakeContent(7)[..(200 * 2048)];
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("cd.iso", content), 2, "--device-type", "cd");
        await using (Graph graph = await OpenAsync(server.Uri(2)))
        {
            await AssertContentAsync(graph.Root, content, "the CD");
            var odd = new byte[3000];
            await graph.Root.ReadAsync(2047, odd);
            TestPattern.AssertEqual(content.AsSpan(2047, odd.Length), odd, 2047, "not aligned");
        }

        await AssertRefusedAsync(BlockErrorKind.ReadOnly, "CD", () => OpenAsync(server.Uri(2), writable: true));
    }

    [SkippableFact]
    public async Task Holes_are_seen_made_and_read_as_zeroes()
    {
        byte[] model = MakeContent();
        string file = Dir.WriteSparse("thin.raw", model.Length);
        await using (FileStream stream = File.OpenWrite(file))
        {
            await stream.WriteAsync(model.AsMemory(0, 65536));
        }

        model.AsSpan(65536).Clear();
        IscsiServer server = Keep(new IscsiServer()).AddThin(file);
        await using Graph graph = await OpenAsync(server.Uri(), writable: true);
        Assert.Equal("0d 65536z", await MapAsync(graph.Root));
        TestPattern.Fill(model.AsSpan(262144, 131072), 0, 3);
        await graph.Root.WriteAsync(262144, model.AsMemory(262144, 131072));
        await graph.Root.DiscardAsync(0, 32768);
        model.AsSpan(0, 32768).Clear();
        await graph.Root.ZeroAsync(262144, 65536, ZeroFlags.MayUnmap);
        model.AsSpan(262144, 65536).Clear();
        await graph.Root.FlushAsync();
        Assert.Equal("0z 32768d 65536z 327680d 393216z", await MapAsync(graph.Root));
        await AssertContentAsync(graph.Root, model, "with holes");
        for (int at = 65536 - 700; at < 65536 + 700; at += 100)
        {
            BlockExtent extent = await graph.Root.MapAsync(at, model.Length - at);
            Assert.True(
                !extent.IsZero || !model.AsSpan(at, (int)extent.Length).ContainsAnyExcept((byte)0), $"{at}+{extent.Length}");
            Assert.Equal(at >= 65536, extent.IsZero);
            Assert.InRange(at + extent.Length, at + 1, at < 65536 ? 65536 : 262144 + 65536);
        }
    }

    [SkippableFact]
    public async Task A_write_protected_unit_is_only_read()
    {
        byte[] content = MakeContent();
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("ro.raw", content)).Change(1, "readonly=1");
        await AssertRefusedAsync(BlockErrorKind.ReadOnly, "write-protected", () => OpenAsync(server.Uri(), writable: true));
        await using Graph graph = await OpenAsync(server.Uri());
        await AssertContentAsync(graph.Root, content, "protected");
    }

    [SkippableFact]
    public async Task What_is_not_there_is_told()
    {
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("disk.raw", MakeContent()));
        await AssertRefusedAsync(BlockErrorKind.NotFound, "no such logical unit", () => OpenAsync(server.Uri(9)));
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "no such target", () => OpenAsync($"iscsi://127.0.0.1:{server.Port}/iqn.none/1"));
        await AssertRefusedAsync(BlockErrorKind.NotSupported, "neither a disk", () => OpenAsync(server.Uri(0)));
    }

    [SkippableFact]
    public async Task Passwords_are_proved_in_both_directions()
    {
        byte[] content = MakeContent();
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("disk.raw", content))
            .Protect("alice", "secret12345678", ("bob", "outgoing123456")).Negotiate("HeaderDigest", "CRC32C");
        using SecretStore secrets = Secrets(("s", "secret12345678"), ("bad", "wrong123456789"), ("back", "outgoing123456"));
        (string, string)[] good = [("user", "alice"), ("password-secret", "s"), ("header-digest", "crc32c")];
        await using (Graph graph = await OpenAsync(server.Uri(), secrets: secrets, options: good))
        {
            await AssertContentAsync(graph.Root, content, "CHAP");
        }

        await using (Graph graph = await OpenAsync(
            server.Uri(), true, secrets, [.. good, ("target-user", "bob"), ("target-password-secret", "back")]))
        {
            await AssertContentAsync(graph.Root, content, "mutual CHAP");
            server.Kill();
            server.Start();
            await graph.Root.WriteAsync(0, content.AsMemory(0, 4096)).AsTask().WaitAsync(Limit);
        }

        foreach ((string Words, (string, string)[] Options) bad in ((string, (string, string)[])[])
        [
            ("name and password", [("user", "alice"), ("password-secret", "bad")]),
            ("name and password", [("user", "carol"), ("password-secret", "s")]),
            ("not proved", [.. good, ("target-user", "bob"), ("target-password-secret", "bad")]),
            ("not proved", [.. good, ("target-user", "carol"), ("target-password-secret", "back")]),
        ])
        {
            BlockException e = await AssertRefusedAsync(
                BlockErrorKind.PermissionDenied, bad.Words,
                () => OpenAsync(server.Uri(), secrets: Secrets(
                    ("s", "secret12345678"), ("bad", "wrong123456789"), ("back", "outgoing123456")), options: bad.Options));
            Assert.DoesNotContain("1234", e.ToString(), StringComparison.Ordinal);
        }

        await AssertRefusedAsync(BlockErrorKind.PermissionDenied, "password", () => OpenAsync(server.Uri()));
        await using (Graph graph = await OpenAsync(server.Uri(user: "alice%secret12345678@")))
        {
            await AssertContentAsync(graph.Root, content, "by the URI");
            Assert.DoesNotContain("secret", graph.Root.Name, StringComparison.Ordinal);
        }

        string config = Dir.Write(
            "config", "[iscsi \"iqn.2024-01.test.local:disk\"]\nuser = \"alice\"\npassword-secret = \"s\"\n"u8);
        await using Graph configured = await OpenAsync(
            server.Uri(), secrets: Secrets(("s", "secret12345678")), options: ("config", config));
        await AssertContentAsync(configured.Root, content, "by the configuration");
    }

    [SkippableFact]
    public async Task Killed_and_started_again_during_writes_nothing_acknowledged_is_lost()
    {
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        IscsiServer server = Keep(new IscsiServer()).Add(file);
        await using (Graph graph = await OpenAsync(server.Uri(), writable: true))
        {
            using var done = new CancellationTokenSource();
            var killing = Task.Run(() =>
            {
                for (int i = 0; i < 4 && !done.IsCancellationRequested; i++)
                {
                    SpinWait.SpinUntil(() => done.IsCancellationRequested, 60);
                    server.Kill();
                    server.Start();
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
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("disk.raw", model));
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
    public async Task A_stopped_target_does_not_hold_up_closing()
    {
        IscsiServer server = Keep(new IscsiServer()).Add(Dir.Write("disk.raw", MakeContent()));
        Graph graph = await OpenAsync(server.Uri(), writable: true);
        await graph.Root.WriteAsync(0, new byte[512]);
        server.Stop();
        var watch = System.Diagnostics.Stopwatch.StartNew();
        Task read = graph.Root.ReadAsync(0, new byte[512]).AsTask();
        graph.StopWaiting(TimeSpan.FromSeconds(1));
        await Assert.ThrowsAsync<BlockException>(() => read.WaitAsync(Limit));

        // What was written was not flushed, and cannot be: closing says so.
        await Assert.ThrowsAsync<BlockException>(() => graph.CloseAsync().AsTask().WaitAsync(Limit));
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{watch.Elapsed}");
    }

    private static async Task<string> MapAsync(BlockNode disk)
    {
        var text = new List<string>();
        bool? last = null;
        for (long at = 0; at < disk.Length;)
        {
            BlockExtent extent = await disk.MapAsync(at, disk.Length - at);
            if (last != extent.IsZero)
            {
                text.Add($"{at}{(extent.IsZero ? 'z' : 'd')}");
                last = extent.IsZero;
            }

            at += extent.Length;
        }

        return string.Join(' ', text);
    }
}
