using ImageMount.Filters.RemoteCache;

namespace ImageMount.Filters.Tests.RemoteCache;

/// <summary>Random reads, mounts, versions, removals, losses and damage, compared with the files themselves.</summary>
public sealed class CacheModelTests : CacheTestBase
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public async Task Whatever_happens_every_byte_is_that_of_the_version_that_was_opened(int seed)
    {
        var random = new Random(seed);
        var server = new FakeServer(MakeContent(random.Next(1, 600_000), seed)) { ChecksEveryRead = seed % 2 == 0 };
        var open = new List<(Graph Graph, byte[] Content)>();
        int version = 0;
        var log = new List<string>();
        try
        {
            for (int step = 0; step < 150; step++)
            {
                int what = random.Next(100);
                log.Add($"{step}: {what}");
                if (open.Count == 0 || what < 10)
                {
                    server.IsAway = false;
                    open.Add((await server.OpenAsync(Layer(random.Next(2) == 0 ? 1 << 20 : 1 << 30)), server.Content));
                }
                else if (what < 18)
                {
                    int which = random.Next(open.Count);
                    await open[which].Graph.CloseAsync();
                    open.RemoveAt(which);
                }
                else if (what < 22)
                {
                    await CloseAllAsync(open); // A file that changes under a reader who is not told is another test.
                    server.Content = MakeContent(random.Next(1, 600_000), seed + (++version * 100));
                    server.State = new RemoteVersion($"ETag {version}", true);
                }
                else if (what < 26)
                {
                    foreach (string file in Files.Where(_ => random.Next(2) == 0))
                    {
                        File.Delete(file);
                    }
                }
                else if (what < 30 && Files.Length > 0)
                {
                    await CloseAllAsync(open); // Once verified, bytes are trusted until they are closed.
                    string file = Files[random.Next(Files.Length)];
                    using FileStream stream = File.Open(file, FileMode.Open);
                    stream.Position = random.NextInt64(stream.Length);
                    stream.WriteByte((byte)random.Next(256));
                }
                else if (what < 34)
                {
                    server.IsAway = !server.IsAway;
                }
                else
                {
                    (Graph graph, byte[] content) = open[random.Next(open.Count)];
                    int offset = random.Next(content.Length);
                    int count = Math.Min(random.Next(1, random.Next(2) == 0 ? 5000 : 300_000), content.Length - offset);
                    try
                    {
                        await AssertPartAsync(
                            content, graph.Root, offset, count, $"seed {seed}\n{string.Join(", ", log)}");
                    }
                    catch (BlockException) when (server.IsAway)
                    {
                        continue; // What is not there.
                    }
                }
            }
        }
        finally
        {
            await CloseAllAsync(open);
        }
    }

    [Fact]
    public void Checksums_see_every_single_bit_and_every_length()
    {
        byte[] unit = TestPattern.Make(CacheLayout.UnitSize, 0, 1);
        uint right = UnitChecksum.Of(unit);
        for (int bit = 0; bit < unit.Length * 8; bit += 97)
        {
            unit[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.NotEqual(right, UnitChecksum.Of(unit));
            unit[bit / 8] ^= (byte)(1 << (bit % 8));
        }

        Assert.Equal(right, UnitChecksum.Of(unit));
        uint[] ofLengths = [.. Enumerable.Range(1, 200).Select(length => UnitChecksum.Of(new byte[length]))];
        Assert.Equal(ofLengths.Length, ofLengths.Distinct().Count());
        Assert.DoesNotContain(0u, ofLengths);
    }

    private static async Task CloseAllAsync(List<(Graph Graph, byte[] Content)> open)
    {
        foreach ((Graph graph, _) in open)
        {
            await graph.CloseAsync();
        }

        open.Clear();
    }
}
