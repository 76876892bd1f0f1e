using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;
using static ImageMount.TestSupport.Servers.FakeNbdServer;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>Replies that break the protocol, from literal bytes and from a fuzzer.</summary>
public sealed class NbdHostileTests(ITestOutputHelper output) : NbdTestBase
{
    private static readonly (string, string)[] Quick =
        [("reconnect-delay", "0"), ("timeout", "2")];

    /// <summary>Name, options of the server, answer to a read of 4096 bytes at 8192, words of the error.</summary>
    public static TheoryData<string, uint[], Func<FakeNbdRequest, byte[]>, string> Replies => new()
    {
        { "another magic", [7], _ => Be(0xdeadbeefu, 0u, 0ul), "magic" },
        { "a wrong cookie", [7], r => Simple(r.Cookie + 1, 0, new byte[4096]), "no request that waits" },
        { "a cookie of a free slot", [7], _ => Simple(63, 0, new byte[4096]), "no request that waits" },
        { "a structured reply that was not agreed on", [7], r => Chunk(r.Cookie, 0, true, []), "magic" },
        { "a simple reply to a read, though structured", [7, 8], r => Simple(r.Cookie, 0, new byte[4096]), "simple" },
        { "no data at all", [7, 8], r => Chunk(r.Cookie, 0, true, []), "leaves out" },
        { "half of the data", [7, 8], r => Chunk(r.Cookie, 1, true, Be(8192ul, new byte[2048])), "leaves out" },
        { "data before the request", [7, 8], r => Chunk(r.Cookie, 1, true, Be(8191ul, new byte[4096])), "outside" },
        { "data behind the request", [7, 8], r => Chunk(r.Cookie, 1, true, Be(8193ul, new byte[4096])), "outside" },
        { "data far away", [7, 8], r => Chunk(r.Cookie, 1, true, Be(ulong.MaxValue, new byte[16])), "outside" },
        {
            "data twice", [7, 8],
            r => Be(Chunk(r.Cookie, 1, false, Be(8192ul, new byte[4096])), Chunk(r.Cookie, 1, true, Be(9000ul, new byte[1]))),
            "outside"
        },
        { "a chunk of data without data", [7, 8], r => Chunk(r.Cookie, 1, true, Be(8192ul)), "too short" },
        { "a hole with a wrong length", [7, 8], r => Chunk(r.Cookie, 2, true, Be(8192ul)), "hole" },
        { "an empty hole", [7, 8], r => Chunk(r.Cookie, 2, true, Be(8192ul, 0u)), "outside" },
        { "a huge hole", [7, 8], r => Chunk(r.Cookie, 2, true, Be(8192ul, uint.MaxValue)), "outside" },
        { "block status for a read", [7, 8], r => Chunk(r.Cookie, 5, true, Be(7u, 1u, 0u)), "does not answer" },
        { "an unknown chunk", [7, 8], r => Chunk(r.Cookie, 77, true, []), "does not answer" },
        { "an empty chunk that is not the last", [7, 8], r => Chunk(r.Cookie, 0, false, []), "does not answer" },
        { "an error without a number", [7, 8], r => Chunk(r.Cookie, 0x8001, true, [0, 0]), "does not answer" },
        { "an error with too long a text", [7, 8], r => Chunk(r.Cookie, 0x8001, true, Be(5u, (ushort)9, "A"u8.ToArray())), "longer" },
        { "an error that is none", [7, 8], r => Chunk(r.Cookie, 0x8001, true, Be(0u, (ushort)0)), "EINVAL" },
        { "an unknown error with words", [7, 8], r => Chunk(r.Cookie, 0x8765, true, Be(5u, (ushort)2, "hm"u8.ToArray())), "hm" },
        { "an extended reply that was not agreed on", [7, 8], r => Extended(r.Cookie, 0, true, 0, []), "magic" },
        { "a structured reply, though extended", [7, 8, 11], r => Chunk(r.Cookie, 0, true, []), "magic" },
        { "an extended chunk of 8 EiB", [7, 8, 11], r => Be(0x6e8a278cu, (ushort)1, (ushort)1, r.Cookie, 0ul, 1ul << 63), "short" },
        { "the connection breaks off", [7], _ => throw new IOException("crash"), "closed the connection" },
    };

    [Theory]
    [MemberData(nameof(Replies))]
    public async Task A_wrong_reply_to_a_read_is_an_error(
        string name, uint[] options, Func<FakeNbdRequest, byte[]> reply, string words)
    {
        output.WriteLine(name);
        using FakeNbdServer server = Fake(s => s.Options.IntersectWith(options));
        server.Answer = request => request.Command == 0 ? reply(request) : null;
        await using Graph graph = await OpenAsync(server.Uri, options: Quick);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            () => graph.Root.ReadAsync(8192, new byte[4096]).AsTask().WaitAsync(Limit));
        Assert.Contains(words, e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("simple")]
    [InlineData("empty")]
    [InlineData("context")]
    [InlineData("zero length")]
    [InlineData("half an entry")]
    public async Task A_wrong_block_status_is_an_error(string what)
    {
        using FakeNbdServer server = Fake(s => s.Options.Remove(11));
        server.Answer = r => r.Command != 7 ? null : what switch
        {
            "simple" => Simple(r.Cookie, 0),
            "empty" => Chunk(r.Cookie, 0, true, []),
            "context" => Chunk(r.Cookie, 5, true, Be(8u, 512u, 0u)),
            "zero length" => Chunk(r.Cookie, 5, true, Be(7u, 0u, 0u)),
            _ => Chunk(r.Cookie, 5, true, Be(7u, 512u)),
        };
        await using Graph graph = await OpenAsync(server.Uri, options: Quick);
        await Assert.ThrowsAsync<BlockException>(() => graph.Root.MapAsync(0, 65536).AsTask().WaitAsync(Limit));
    }

    [Theory]
    [InlineData(0u, 1u, 1u)]
    [InlineData(3u, 512u, 1024u)]
    [InlineData(1u << 17, 1u << 17, 1u << 20)]
    [InlineData(4096u, 4096u, 512u)]
    [InlineData(4096u, 4096u, 5000u)]
    public async Task Impossible_block_sizes_are_refused(uint min, uint preferred, uint max)
    {
        using FakeNbdServer server = Fake(s => s.Blocks = (min, preferred, max));
        await AssertRefusedAsync(BlockErrorKind.InvalidData, "block sizes", () => OpenAsync(server.Uri));
    }

    [Fact]
    public async Task An_impossible_size_is_refused()
    {
        using FakeNbdServer server = Fake(s => s.Size = 1ul << 63);
        await AssertRefusedAsync(BlockErrorKind.InvalidData, "size", () => OpenAsync(server.Uri));
    }

    /// <summary>
    /// A byte of what the server sends is changed, left out or added: an error or the right answer, in bounded time, and
    /// never another exception. (Payload may change unseen: the protocol has no checksums.)
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Damaged_messages_are_errors(int dialect)
    {
        int failed = 0;
        await Parallel.ForEachAsync(
            Enumerable.Range(dialect * 1000, 40), new ParallelOptions { MaxDegreeOfParallelism = 16 },
            async (seed, _) => Interlocked.Add(ref failed, await FailsAsync(dialect, seed) ? 1 : 0));
        output.WriteLine($"{failed} of 40 were errors");
        Assert.True(failed > 5, "hardly anything was noticed");
    }

    private async Task<bool> FailsAsync(int dialect, int seed)
    {
        var random = new Random(seed);
        int victim = random.Next(1, 14);
        int sent = 0;
        using FakeNbdServer server = Fake(s =>
        {
            s.Style = dialect == 1 ? FakeNbdStyle.Old : FakeNbdStyle.Fixed;
            s.Options.IntersectWith(dialect switch { 2 => [7], 3 => [7, 8, 10], _ => [7, 8, 10, 11] });
            s.Mutate = bytes => Interlocked.Increment(ref sent) == victim ? Damage(bytes, random) : bytes;
        });
        try
        {
            string uri = dialect == 1 ? server.Uri.Replace("/disk?", "/?", StringComparison.Ordinal) : server.Uri;
            await using Graph graph = await OpenAsync(
                uri, writable: true, options: [("reconnect-delay", "0"), ("timeout", "1")]);
            for (int i = 0; i < 4; i++)
            {
                await graph.Root.ReadAsync(i * 512, new byte[512]).AsTask().WaitAsync(Limit);
                await graph.Root.MapAsync(0, 4096).AsTask().WaitAsync(Limit);
            }

            await graph.Root.WriteAsync(0, new byte[512]).AsTask().WaitAsync(Limit);
            await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
            return false;
        }
        catch (BlockException)
        {
            return true;
        }
        catch (Exception e)
        {
            Assert.Fail($"seed {seed}: {e}");
            return false;
        }
    }

    private static byte[] Damage(byte[] bytes, Random random)
    {
        byte[] copy = [.. bytes];
        int at = random.Next(Math.Min(copy.Length, 64));
        switch (random.Next(4))
        {
            case 0:
                return [.. copy[..at], .. copy[(at + 1)..]];
            case 1:
                return [.. copy[..at], (byte)random.Next(256), .. copy[at..]];
            case 2:
                copy[at] = (byte)(random.Next(2) == 0 ? 0xff : 0);
                return copy;
            default:
                copy[at] ^= (byte)(1 << random.Next(8));
                return copy;
        }
    }
}
