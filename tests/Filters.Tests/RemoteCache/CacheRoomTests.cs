using ImageMount.Filters.RemoteCache;

namespace ImageMount.Filters.Tests.RemoteCache;

/// <summary>How much there may be, and who has to go.</summary>
public sealed class CacheRoomTests : CacheTestBase
{
    private long Used => Files.Sum(
        file => Interop.Stat.TryGet(file, out Interop.StatInfo info) == 0 ? info.Blocks * 512 : 0);

    [Fact]
    public async Task A_full_cache_reads_from_the_server_and_says_so_once()
    {
        const long LimitBytes = 2 << 20;
        var server = new FakeServer(TestPattern.Make(6 << 20, 0, 9));
        await using Graph graph = await server.OpenAsync(Layer(LimitBytes));
        await AssertSameAsync(server.Content, graph);
        await AssertSameAsync(server.Content, graph);
        Assert.Contains("full", Assert.Single(graph.Warnings), StringComparison.Ordinal);
        Assert.InRange(Used, LimitBytes / 2, LimitBytes);
        Assert.True(CacheOf(graph).Status.HitBytes >= LimitBytes / 2);
    }

    [Fact]
    public async Task What_was_not_used_for_longest_makes_room_and_what_is_in_use_does_not()
    {
        var servers = new List<FakeServer>();
        for (int i = 0; i < 4; i++)
        {
            servers.Add(new FakeServer(TestPattern.Make(1 << 20, 0, i)));
            await using Graph graph = await servers[i].OpenAsync(Layer(), url: $"{i}");
            await AssertSameAsync(servers[i].Content, graph);
            File.SetLastWriteTimeUtc(Files.MaxBy(File.GetCreationTimeUtc)!, DateTime.UtcNow.AddHours(-10 + i));
        }

        // The oldest one is in use, so the second oldest goes first.
        await using Graph used = await servers[0].OpenAsync(Layer(), url: "0");
        File.SetLastWriteTimeUtc(Files.MaxBy(File.GetLastWriteTimeUtc)!, DateTime.UtcNow.AddHours(-20));
        var more = new FakeServer(TestPattern.Make(1 << 20, 0, 77));
        await using (Graph graph = await more.OpenAsync(Layer(4 << 20), url: "more"))
        {
            await AssertSameAsync(more.Content, graph);
        }

        Assert.InRange(Used, 2 << 20, 4 << 20);
        foreach ((FakeServer server, string url, bool isThere) in ((FakeServer, string, bool)[])
            [(servers[3], "3", true), (servers[0], "0", true), (servers[1], "1", false)])
        {
            server.Reads.Clear();
            await using Graph graph = await server.OpenAsync(Layer(), url: url);
            await AssertSameAsync(server.Content, graph);
            Assert.Equal(isThere, server.Reads.IsEmpty);
        }
    }

    [Fact]
    public async Task Leftovers_of_a_process_that_ended_are_removed()
    {
        await WarmAsync(new FakeServer(MakeContent()));
        string left = Path.Join(Folder, "0123456789abcdef-left.imgcache.new");
        File.WriteAllBytes(left, new byte[100]);
        string other = Path.Join(Folder, "notes.txt");
        File.WriteAllText(other, "mine");
        _ = Layer();
        Assert.False(File.Exists(left));
        Assert.True(File.Exists(other), "what is not of the cache is nobody's business");
    }

    [Fact]
    public async Task A_limit_below_what_is_there_is_enforced_at_the_start()
    {
        await WarmAsync(new FakeServer(TestPattern.Make(4 << 20, 0, 1)));
        _ = Layer(1 << 20);
        Assert.Empty(Files);
    }

    [Fact]
    public async Task Several_users_at_once_share_files_and_remove_none_of_each_other()
    {
        const int Seed = 4711;
        FakeServer[] servers = [.. Enumerable.Range(0, 5).Select(i => new FakeServer(TestPattern.Make(300_000, 0, i)))];
        await Task.WhenAll(Enumerable.Range(0, 6).Select(user => Task.Run(async () =>
        {
            var random = new Random(Seed + user);
            for (int round = 0; round < 15; round++)
            {
                int which = random.Next(servers.Length);
                await using Graph graph = await servers[which].OpenAsync(Layer(1 << 20), url: $"{which}");
                for (int read = 0; read < 10; read++)
                {
                    int offset = random.Next(299_999);
                    int count = Math.Min(random.Next(1, 100_000), 300_000 - offset);
                    await AssertPartAsync(
                        servers[which].Content, graph.Root, offset, count, $"seed {Seed}, user {user}, round {round}");
                }
            }
        })));
        Assert.All(Files, file => Assert.EndsWith(CacheHeader.Suffix, file, StringComparison.Ordinal));
    }
}
