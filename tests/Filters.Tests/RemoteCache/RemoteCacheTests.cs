using ImageMount.Filters.RemoteCache;

namespace ImageMount.Filters.Tests.RemoteCache;

public sealed class RemoteCacheTests : CacheTestBase
{
    [Fact]
    public async Task What_was_read_once_is_not_read_from_the_server_again()
    {
        var server = new FakeServer(MakeContent());
        await WarmAsync(server);
        server.Reads.Clear();
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(server.Content, graph, "warm, verified");
            await AssertSameAsync(server.Content, graph, "warm, plain");
            for (int offset = 0; offset < server.Content.Length; offset += 7777)
            {
                int count = Math.Min(4096, server.Content.Length - offset);
                await AssertPartAsync(server.Content, graph.Root, offset, count, "pieces");
            }

            Assert.Equal(0, CacheOf(graph).Status.FetchedBytes);
        }

        Assert.Empty(server.Reads);
        Assert.Single(Files);
    }

    [Fact]
    public async Task A_warm_read_is_complete_at_once_and_allocates_nothing()
    {
        var server = new FakeServer(MakeContent());
        await WarmAsync(server);
        await using Graph graph = await server.OpenAsync(Layer());
        await AssertSameAsync(server.Content, graph);
        BlockNode node = graph.Nodes.Single(candidate => candidate.Device is IRemoteCache);
        var buffer = new byte[4096];
        Assert.True(node.ReadAsync(0, buffer).IsCompletedSuccessfully);
        int missed = 0;
        Assert.Equal(0, Allocations.Least(20, () =>
        {
            for (int i = 0; i < 1000; i++)
            {
                missed += node.ReadAsync(i * 900, buffer).IsCompletedSuccessfully ? 0 : 1;
            }
        }));
        Assert.Equal(0, missed);
    }

    [Fact]
    public async Task Small_reads_fetch_whole_clusters_and_verify_only_what_they_touch()
    {
        var server = new FakeServer(MakeContent());
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await ReadAsync(graph.Root, 70_000, 10);
            await ReadAsync(graph.Root, 131_071, 1);
            await ReadAsync(graph.Root, 999_999, 4);
        }

        Assert.Equal([(65536, 65536), (983040, 1_000_003 - 983040)], server.Reads);
    }

    [Fact]
    public async Task Zeroes_take_no_room()
    {
        var server = new FakeServer(new byte[8 << 20]);
        await WarmAsync(server);
        server.Reads.Clear();
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(server.Content, graph);
        }

        Assert.Empty(server.Reads);
        Interop.Stat.TryGet(Files[0], out Interop.StatInfo info);
        Assert.True(info.Blocks * 512 < 64 << 10, $"{info.Blocks} blocks");
    }

    [Fact]
    public async Task Many_readers_of_the_same_bytes_fetch_them_once()
    {
        var server = new FakeServer(MakeContent());
        var gate = new TaskCompletionSource();
        server.Before = (_, token) => gate.Task.WaitAsync(token);
        await using Graph graph = await server.OpenAsync(Layer());
        Task<byte[]>[] readers =
            [.. Enumerable.Range(0, 20).Select(i => ReadAsync(graph.Root, 131072 + (i * 100), 65536))];
        gate.SetResult();
        for (int i = 0; i < readers.Length; i++)
        {
            AssertBytes(server.Content, 131072 + (i * 100), await readers[i], $"reader {i}");
        }

        Assert.True(server.Reads.Sum(read => read.Count) <= 131072, string.Join(' ', server.Reads));
    }

    [Fact]
    public async Task A_reader_who_gives_up_leaves_others_alone()
    {
        var server = new FakeServer(MakeContent());
        using var stop = new CancellationTokenSource();
        server.Before = (_, token) => Task.Delay(Timeout.Infinite, token);
        await using Graph graph = await server.OpenAsync(Layer());
        Task first = graph.Root.ReadAsync(0, new byte[100], stop.Token).AsTask();
        await UntilAsync(() => !server.Reads.IsEmpty);
        Task<byte[]> second = ReadAsync(graph.Root, 50, 100);
        server.Before = (_, _) => Task.CompletedTask;
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => first.WaitAsync(Limit));
        AssertBytes(server.Content, 50, await second, "the other");
    }

    [Fact]
    public async Task Another_version_is_another_disk_and_the_old_one_is_removed()
    {
        var server = new FakeServer(MakeContent());
        await WarmAsync(server);
        string[] before = Files;
        server.Content = MakeContent(seed: 2);
        server.State = new RemoteVersion("ETag \"two\"", true);
        await WarmAsync(server);
        Assert.NotEqual(before, Files);
        Assert.Single(Files);
        server.Content = MakeContent(900_000, seed: 3);
        server.State = new RemoteVersion("ETag \"two\"", true); // The same tag, and yet another length.
        await WarmAsync(server);
        Assert.Single(Files);
    }

    [Fact]
    public async Task Other_names_and_users_are_other_disks()
    {
        var server = new FakeServer(MakeContent());
        await using Graph one = await server.OpenAsync(Layer(), url: "one");
        await using Graph two = await server.OpenAsync(Layer(), url: "two");
        await AssertSameAsync(server.Content, one);
        await AssertSameAsync(server.Content, two);
        Assert.Equal(2, Files.Length);
        Assert.All(Files, file => Assert.DoesNotContain("one", Path.GetFileName(file), StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_disk_without_a_version_is_kept_only_under_one_that_the_user_gives()
    {
        var server = new FakeServer(MakeContent()) { State = null };
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(server.Content, graph);
            Assert.Contains(graph.Warnings, text => text.Contains("unversioned=", StringComparison.Ordinal));
        }

        Assert.Empty(Files);
        await using (Graph graph = await server.OpenAsync(Layer(unversioned: "monday")))
        {
            await AssertSameAsync(server.Content, graph);
        }

        server.Content = MakeContent(seed: 2);
        await using (Graph graph = await server.OpenAsync(Layer(unversioned: "tuesday")))
        {
            await AssertSameAsync(server.Content, graph);
        }
    }

    [Theory]
    [InlineData(-100, true)]
    [InlineData(-30, false)] // It may be modified again without getting another time.
    [InlineData(100, false)] // A clock that is wrong.
    public async Task A_time_is_a_version_only_when_it_is_old_enough(int seconds, bool isKept)
    {
        var clock = new ManualClock();
        clock.Advance(1_000_000_000);
        var server = new FakeServer(MakeContent())
        {
            State = new RemoteVersion("modified then", false, clock.GetUtcNow().AddSeconds(seconds)),
        };
        await using Graph graph = await server.OpenAsync(Layer(clock: clock));
        await AssertSameAsync(server.Content, graph);
        Assert.Equal(isKept ? 1 : 0, Files.Length);
        Assert.Equal(isKept ? 0 : 1, graph.Warnings.Count);
    }

    [Fact]
    public async Task While_the_server_is_away_what_is_there_is_shown_and_the_rest_is_an_error()
    {
        var server = new FakeServer(MakeContent());
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await ReadAsync(graph.Root, 0, 200_000);
        }

        server.IsAway = true;
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertPartAsync(server.Content, graph.Root, 0, 200_000, "away");
            BlockException e = await Assert.ThrowsAsync<BlockException>(() => ReadAsync(graph.Root, 600_000, 10));
            Assert.Contains("not in the remote cache", e.Describe(), StringComparison.Ordinal);
            Assert.Contains("away", e.Describe(), StringComparison.Ordinal);
            string warning = Assert.Single(graph.Warnings);
            Assert.Contains("ETag \"one\"", warning, StringComparison.Ordinal);
            Assert.Contains("26 %", warning, StringComparison.Ordinal);
        }

        BlockException refused = await Assert.ThrowsAsync<BlockException>(
            async () => await server.OpenAsync(Layer(), writable: true));
        Assert.Contains("--read-only", refused.Hint, StringComparison.Ordinal);
        await Assert.ThrowsAsync<BlockException>(async () => await server.OpenAsync(Layer(), url: "another"));
    }

    [Fact]
    public async Task While_the_server_is_away_the_version_that_was_used_last_is_shown()
    {
        var server = new FakeServer(MakeContent());
        await using Graph old = await server.OpenAsync(Layer()); // In use: it is not removed.
        await AssertSameAsync(server.Content, old);
        byte[] second = server.Content = MakeContent(seed: 2);
        server.State = new RemoteVersion("ETag \"two\"", true);
        await WarmAsync(server);
        Assert.Equal(2, Files.Length);
        server.IsAway = true;
        await using Graph graph = await server.OpenAsync(Layer());
        await AssertSameAsync(second, graph);
    }

    [Fact]
    public async Task What_is_there_is_read_on_when_the_server_goes_away()
    {
        var server = new FakeServer(MakeContent());
        await using Graph graph = await server.OpenAsync(Layer());
        await ReadAsync(graph.Root, 0, 200_000);
        server.IsAway = true;
        await AssertPartAsync(server.Content, graph.Root, 0, 200_000, "away");
        await Assert.ThrowsAsync<BlockException>(() => ReadAsync(graph.Root, 900_000, 10));
        server.IsAway = false;
        await AssertSameAsync(server.Content, graph);
    }

    [Fact]
    public async Task A_disk_that_may_be_written_is_not_kept_and_forgotten()
    {
        var server = new FakeServer(MakeContent()) { CanWrite = true };
        await WarmAsync(server);
        await using (Graph graph = await server.OpenAsync(Layer(), writable: true))
        {
            Assert.True(graph.Root.CanWrite);
            await graph.Root.WriteAsync(5, new byte[] { 1, 2, 3 });
            await AssertSameAsync(server.Content, graph);
        }

        Assert.Empty(Files);
    }

    [Fact]
    public async Task Reads_that_are_not_checked_are_kept_once_the_server_says_that_nothing_has_changed()
    {
        var server = new FakeServer(MakeContent()) { ChecksEveryRead = false };
        await WarmAsync(server);
        Assert.True(server.Questions > 0);
        server.Reads.Clear();
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(server.Content, graph);
        }

        Assert.Empty(server.Reads);
    }

    [Fact]
    public async Task What_was_read_while_the_file_changed_is_not_kept_though_its_old_time_comes_back()
    {
        byte[] first = MakeContent();
        var server = new FakeServer(first) { ChecksEveryRead = false };
        RemoteVersion? version = server.State;
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            server.Content = MakeContent(seed: 2);
            server.State = new RemoteVersion("changed", true);
            await ReadAsync(graph.Root, 0, 500_000);
        }

        server.Content = first;
        server.State = version; // Put back, with its time, from a backup.
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(first, graph);
        }
    }

    [Fact]
    public async Task Nothing_is_marked_while_the_server_does_not_say_whether_it_has_changed()
    {
        var server = new FakeServer(MakeContent()) { ChecksEveryRead = false };
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(server.Content, graph);
            server.IsAway = true;
        }

        server.IsAway = false;
        server.Reads.Clear();
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await AssertSameAsync(server.Content, graph);
        }

        Assert.NotEmpty(server.Reads);
    }

    [Theory]
    [InlineData(0x3FF)] // 1777
    [InlineData(0x1F2)] // 762
    public void A_folder_that_others_may_write_into_is_refused(int mode)
    {
        Directory.CreateDirectory(Folder);
        SetMode(Folder, mode);
        BlockException e = Assert.Throws<BlockException>(() => Layer());
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }

    [Fact]
    public void A_file_in_the_place_of_the_folder_is_refused()
    {
        File.WriteAllText(Folder, "");
        Assert.Equal(BlockErrorKind.InvalidArgument, Assert.Throws<BlockException>(() => Layer()).Kind);
        Assert.Throws<BlockException>(() => new RemoteCacheLayer(new RemoteCacheSettings(Folder + "/x/y", 1 << 20, null)));
    }

    [Fact]
    public async Task Folder_and_files_are_the_users_own()
    {
        await WarmAsync(new FakeServer(MakeContent()));
        Assert.Equal(0x1C0, ModeOf(Folder)); // 0700
        Assert.Equal(0x180, ModeOf(Files.Single())); // 0600
    }
}
