using ImageMount.Core.Block;
using ImageMount.Protocols.Ssh;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>Servers that break the protocol, byte by byte and at random.</summary>
public sealed class SftpHostileTests(ITestOutputHelper output) : SftpTestBase
{
    private static readonly SshOptions AtOnce = Options with { ReconnectDelay = 0 };

    private static CancellationToken None => CancellationToken.None;

    [Theory]
    [InlineData("00000005 02 00000002", BlockErrorKind.NotSupported, "another version")]
    [InlineData("00000005 02 00000006", BlockErrorKind.NotSupported, "another version")]
    [InlineData("00000005 65 00000003", BlockErrorKind.InvalidData, "not its version")]
    [InlineData("00000004 02 00000003", BlockErrorKind.InvalidData, "not its version")]
    [InlineData("7fffffff 02 00000003", BlockErrorKind.InvalidData, "not its version")]
    [InlineData("0000000d 02 00000003 00000008 41414141", BlockErrorKind.InvalidData, "leaves its packet")]
    [InlineData("0000000b 02 00000003 00000001 41 00", BlockErrorKind.InvalidData, "too short")]
    [InlineData("57656c636f6d6521210a", BlockErrorKind.InvalidData, "sends text")]
    public async Task A_wrong_greeting_is_told(string hex, BlockErrorKind kind, string words)
    {
        using var server = new FakeSftpServer(MakeContent()) { Greeting = Bytes(hex) };
        await AssertRefusedAsync(kind, words, () => OpenAsync(server));
    }

    /// <summary>Each is the answer to a request; "ID" stands for its id.</summary>
    [Theory]
    [InlineData(3, "00000011 65 ID 00000003 00000000 00000000", BlockErrorKind.PermissionDenied, "permission")]
    [InlineData(3, "00000009 65 ID 00000002", BlockErrorKind.NotFound, "no such file")] // as old servers say it
    [InlineData(3, "00000009 65 ID 00000000", BlockErrorKind.InvalidData, "says 'done'")]
    [InlineData(3, "00000009 66 ID 00000000", BlockErrorKind.InvalidData, "a handle is too long or empty")]
    [InlineData(3, "0000000b 66 ID 00000004 6161", BlockErrorKind.InvalidData, "leaves its packet")]
    [InlineData(3, "00000005 66 ID", BlockErrorKind.InvalidData, "too short")]
    [InlineData(3, "00000009 69 ID 00000000", BlockErrorKind.InvalidData, "another type")]
    [InlineData(3, "00000009 65 ffffffff 00000000", BlockErrorKind.InvalidData, "no request that waits")]
    [InlineData(3, "00000004 66 ID", BlockErrorKind.InvalidData, "too short or too long")]
    [InlineData(3, "7fffffff 66 ID 00000000", BlockErrorKind.InvalidData, "too short or too long")]
    [InlineData(8, "00000009 69 ID 00000000", BlockErrorKind.NotSupported, "does not tell the size")]
    [InlineData(8, "0000000d 69 ID 00000001 00000000", BlockErrorKind.InvalidData, "too short")]
    [InlineData(8, "00000011 69 ID 00000001 ffffffffffffffff", BlockErrorKind.LimitExceeded, "too large")]
    [InlineData(8, "00000015 69 ID 00000005 0000000000000001 000041ed", BlockErrorKind.InvalidArgument, "regular file")]
    [InlineData(200, "0000000f c9 ID 0000000000000800 0000", BlockErrorKind.InvalidData, "breaks the protocol")]
    [InlineData(200, "00000025 c9 ID 0000000000000400 0000000000000000 0000000000000000 0000000000000000",
        BlockErrorKind.InvalidData, "no room")]
    public async Task A_wrong_answer_while_opening_is_told(byte type, string hex, BlockErrorKind kind, string words)
    {
        using var server = new FakeSftpServer(MakeContent());
        server.Answer = (asked, id, _) => asked == type ? Bytes(hex.Replace("ID", $"{id:x8}")) : null;
        await AssertRefusedAsync(kind, words, () => OpenAsync(server));
    }

    [Theory]
    [InlineData("00000009 67 ID 00000000", "no bytes, or too many")]
    [InlineData("0000000b 67 ID 00000001 4141", "no bytes, or too many")]
    [InlineData("00000009 67 ID 00000200", "no bytes, or too many")]
    [InlineData("0000020a 67 ID 00000201 41", "no bytes, or too many")]
    [InlineData("00000004 67 ID 00000201", "no bytes, or too many")]
    [InlineData("00000009 65 ID 00000000", "says 'done'")]
    [InlineData("00000011 65 ID 00000001 00000000 00000000", "has become shorter")]
    [InlineData("00000009 65 ID 00000004", "it failed")]
    [InlineData("00000009 65 ID 00000063", "status 99")]
    public async Task A_wrong_answer_to_a_read_fails_it(string hex, string words)
    {
        using var server = new FakeSftpServer(MakeContent());
        SshDevice disk = await OpenAsync(server, options: AtOnce);
        server.Answer = (asked, id, _) => asked == 5 ? Bytes(hex.Replace("ID", $"{id:x8}")) : null;
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            () => disk.ReadAsync(0, new byte[512], None).AsTask().WaitAsync(Limit));
        Assert.Contains(words, e.Describe(), StringComparison.Ordinal);
        await disk.CloseAsync();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1000)]
    [InlineData(50_000)]
    public async Task Short_answers_out_of_order_are_put_together(int limit)
    {
        const int seed = 5;
        using var server = new FakeSftpServer(MakeContent(), seed) { IsMessy = true, Limit = limit };
        SshDevice disk = await OpenAsync(server);
        await AssertContentAsync(disk, MakeContent(), $"seed {seed}");
        await disk.CloseAsync();
    }

    /// <summary>What answers say is changed at random, but for payload and ids: those are for SSH to protect.</summary>
    [Fact]
    public async Task Random_damage_is_an_error_and_nothing_else()
    {
        int refused = 0;
        for (int seed = 0; seed < 100; seed++)
        {
            var random = new Random(seed);
            using var server = new FakeSftpServer(MakeContent(20_000), seed);
            int good = random.Next(12);
            server.Change = answer =>
            {
                if (--good >= 0)
                {
                    return answer;
                }

                // Length, type, status, count, size.
                int at = random.Next(3) switch { 0 => random.Next(5), 1 => 9 + random.Next(4), _ => random.Next(answer.Length) };
                at = at is >= 5 and < 9 || at >= answer.Length ? 0 : at;
                byte[] changed = (byte[])answer.Clone();
                changed[at] ^= (byte)(1 << random.Next(8));
                return random.Next(4) == 0 ? changed[..random.Next(1, changed.Length)] : changed;
            };
            try
            {
                SshDevice disk = await OpenAsync(server, writable: true, AtOnce with { Timeout = 1 });
                try
                {
                    for (int i = 0; i < 10; i++)
                    {
                        await disk.ReadAsync(i * 10, new byte[5], None).AsTask().WaitAsync(Limit);
                        await disk.WriteAsync(i * 10, new byte[5], WriteFlags.None, None).AsTask().WaitAsync(Limit);
                    }

                    await disk.FlushAsync(None).AsTask().WaitAsync(Limit);
                }
                finally
                {
                    server.Crash(); // Nothing is to wait for answers that were cut short.
                    disk.StopWaiting(TimeSpan.Zero);
                    await disk.CloseAsync().AsTask().WaitAsync(Limit);
                }
            }
            catch (BlockException)
            {
                refused++;
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}: {e}");
            }
        }

        output.WriteLine($"{refused} of 100 refused");
        Assert.InRange(refused, 60, 100);
    }

    private static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal));
}
