using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>Targets that lie: never a wrong byte, never for ever.</summary>
public sealed class IscsiHostileTests(ITestOutputHelper output) : IscsiTestBase
{
    [Theory]
    [InlineData(0, 0, "left out")] // nothing, and it says that all is there
    [InlineData(512, 0, "left out")]
    [InlineData(16384 - 512, 0, "left out")]
    [InlineData(8192, 8192, "8192 bytes too few")]
    public async Task An_answer_that_is_cut_off_is_an_error(int sent, int told, string words)
    {
        byte[] content = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(content));
        await using Graph graph = await OpenAsync(target.Uri);
        var buffer = new byte[16384];
        for (int i = 0; i < 3; i++)
        {
            // Here and there, so that nothing is read ahead.
            int at = i * 200_704 * 3 % (content.Length - buffer.Length) / 512 * 512;
            target.Answer = command => command.IsRead ? new FakeScsiAnswer(0, content[..sent], null, told) : null;
            await AssertRefusedAsync(
                BlockErrorKind.IoError, words, async () => await graph.Root.ReadAsync(at, buffer));
            target.Answer = null;
            at = content.Length - (buffer.Length * (i + 2));
            await graph.Root.ReadAsync(at, buffer).AsTask().WaitAsync(Limit); // in a new session
            TestPattern.AssertEqual(content.AsSpan(at, buffer.Length), buffer, at, "afterwards");
        }
    }

    [Theory]
    [InlineData("MaxRecvDataSegmentLength=0")] // libiscsi would send pieces of no length for ever
    [InlineData("MaxRecvDataSegmentLength=-1")]
    [InlineData("MaxRecvDataSegmentLength=0x2000")] // nothing but zero to the library
    [InlineData("FirstBurstLength=")]
    [InlineData("MaxBurstLength=16777216")]
    public async Task Lengths_that_cannot_be_are_refused_in_the_login(string key)
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        target.LoginKeys = [key];
        await AssertRefusedAsync(BlockErrorKind.InvalidData, "in the login cannot be", () => OpenAsync(target.Uri, true));
    }

    [Fact]
    public async Task A_target_that_jumps_over_its_proof_or_over_checksums_is_refused()
    {
        byte[] content = MakeContent();
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(content));
        await AssertRefusedAsync(
            BlockErrorKind.NotSupported, "crc32c-none", () => OpenAsync(target.Uri, options: ("header-digest", "crc32c")));
        await using (Graph graph = await OpenAsync(target.Uri, options: ("header-digest", "crc32c-none")))
        {
            await AssertContentAsync(graph.Root, content, "without checksums");
        }

        (string, string)[] login =
            [("user", "a"), ("password", "p"), ("target-user", "b"), ("target-password", "q")];
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "not proved", () => OpenAsync(target.Uri, options: login));
        target.Mutate = message =>
        {
            if (message[0] == 0x23)
            {
                message[1] = 0x87; // the last stage at once
            }

            return message;
        };
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "not proved", () => OpenAsync(target.Uri, options: login));
    }

    [Fact]
    public async Task Residuals_of_writes_are_errors()
    {
        FakeIscsiTarget target = Keep(new FakeIscsiTarget(MakeContent()));
        await using Graph graph = await OpenAsync(target.Uri, writable: true);
        target.Answer = command => command.IsWrite ? FakeScsiAnswer.Good with { Missing = 512 } : null;
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "512 bytes too few", async () => await graph.Root.WriteAsync(0, new byte[4096]));
        target.Answer = null;
        await graph.Root.WriteAsync(0, new byte[4096]);
    }

    /// <summary>Messages of sessions that read are changed in their headers, cut off, or made too long.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Changed_messages_end_in_the_right_bytes_or_in_an_error(int seed)
    {
        output.WriteLine($"seed {seed}");
        byte[] content = MakeContent();
        int good = 0;
        await Task.WhenAll(Enumerable.Range(0, 12).Select(part => Task.Run(async () =>
        {
            for (int i = 0; i < 2; i++)
            {
                int own = (seed * 1000) + (part * 10) + i;
                using var target = new FakeIscsiTarget(content);
                target.Mutate = Mutator(own);
                try
                {
                    await using Graph graph = await OpenAsync(
                        target.Uri, options: [("timeout", "1"), ("reconnect-delay", "0")]);
                    var found = new byte[65536];
                    await graph.Root.ReadAsync(65536 * 2, found).AsTask().WaitAsync(Limit);
                    TestPattern.AssertEqual(content.AsSpan(65536 * 2, found.Length), found, 0, $"seed {own}");
                    Interlocked.Increment(ref good);
                }
                catch (BlockException)
                {
                    // As it should be.
                    continue;
                }
            }
        }))).WaitAsync(Limit);
        output.WriteLine($"{good} of 24 went through");
    }

    /// <summary>One message of a session is changed: the seed says which, and how.</summary>
    private static Func<byte[], byte[]?> Mutator(int seed)
    {
        var random = new Random(seed);
        int which = random.Next(30);
        int count = 0;
        return message =>
        {
            if (count++ != which)
            {
                return message;
            }

            byte[] changed = (byte[])message.Clone();
            switch (random.Next(5))
            {
                case 0:
                    return null; // breaks off
                case 1:
                    return changed[..random.Next(changed.Length)]; // what follows is taken for the rest of it
                case 2:
                    return [.. changed, .. new byte[random.Next(1, 100)]];
                case 3:
                    changed[random.Next(4, 8)] ^= (byte)(1 << random.Next(8)); // the length
                    return changed;
                default:
                    changed[random.Next(48)] ^= (byte)(1 << random.Next(8));
                    return changed;
            }
        };
    }
}
