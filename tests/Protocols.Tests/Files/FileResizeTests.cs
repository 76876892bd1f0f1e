using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using Xunit;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>Changing the length, alone and beside other requests.</summary>
public sealed class FileResizeTests(ITestOutputHelper output) : FileTestBase(output)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Resize_up_gives_zeroes_and_down_and_up_again_too(bool direct)
    {
        string path = NewFile(Pattern(5000));
        BlockNode node = Open(path, Writable with { Direct = direct });
        Assert.True(await node.TryResizeAsync(20_001));
        Assert.Equal(20_001, node.Length);
        Assert.All(await ReadAsync(node, 5000, 15_001), b => Assert.Equal(0, b));
        await node.WriteAsync(0, Pattern(20_001, 2));
        Assert.True(await node.TryResizeAsync(3001));
        Assert.Equal(3001, new FileInfo(path).Length);
        await Assert.ThrowsAsync<BlockException>(() => ReadAsync(node, 3001, 1));
        Assert.True(await node.TryResizeAsync(20_480));
        byte[] expected = new byte[20_480];
        Pattern(20_001, 2).AsSpan(0, 3001).CopyTo(expected);
        Assert.Equal(expected, await ReadAsync(node, 0, 20_480));
    }

    [SkippableFact]
    public async Task Resize_beyond_what_the_file_system_holds_is_no_space_and_changes_nothing()
    {
        BlockNode node = Open(NewFile(Pattern(5000)), Writable);
        var e = await Assert.ThrowsAsync<BlockException>(() => node.TryResizeAsync(long.MaxValue).AsTask());
        Output.WriteLine(e.Describe());
        Assert.True(e.Kind is BlockErrorKind.NoSpace or BlockErrorKind.InvalidArgument);
        Assert.Equal(5000, node.Length);
        Assert.Equal(Pattern(5000), await ReadAsync(node, 0, 5000));
    }

    /// <summary>
    /// Writers with odd requests all over the file, while it grows by odd steps, so that with O_DIRECT the last page
    /// changes sides again and again. Each writer owns every n-th byte range; no byte may be lost.
    /// </summary>
    [Theory]
    [InlineData("/tmp", false)]
    [InlineData("/tmp", true)]
    [InlineData("/dev/shm", true)]
    public async Task Resize_beside_writes_loses_nothing(string place, bool direct)
    {
        const int Writers = 3;
        const int Stripe = 100;
        const int Growths = 150;
        int seed = Environment.TickCount;
        Output.WriteLine($"seed {seed}");
        string path = NewFile(new byte[5001], place);
        BlockNode node = Open(path, Writable with { Direct = direct });
        Assert.Equal(direct, IsDirect(node));
        byte[] model = new byte[1 << 20];
        using var stop = new CancellationTokenSource();
        Task[] writers = [.. Enumerable.Range(0, Writers).Select(writer => Task.Run(async () =>
        {
            var random = new Random(seed + writer);
            while (!stop.IsCancellationRequested)
            {
                // Near the end, where pages change sides.
                long length = node.Length;
                long stripe = Math.Max(0, length - random.Next(1, 12_000)) / Stripe / Writers * Writers + writer;
                int count = (int)Math.Min(Stripe, length - stripe * Stripe);
                if (count > 0)
                {
                    byte[] bytes = new byte[count];
                    random.NextBytes(bytes);
                    await node.WriteAsync(stripe * Stripe, bytes);
                    bytes.CopyTo(model, stripe * Stripe);
                    Assert.Equal(bytes, await ReadAsync(node, stripe * Stripe, count));
                }
            }
        }))];
        var sizes = new Random(seed);
        for (int i = 0; i < Growths; i++)
        {
            // Odd lengths, and now and then a multiple of the block, which has no tail at all.
            long next = node.Length + sizes.Next(1, 3000);
            Assert.True(await node.TryResizeAsync(i % 5 == 0 ? next + 511 & ~511 : next));
            await ReadAsync(node, node.Length - 1, 1);
        }

        await stop.CancelAsync();
        await Task.WhenAll(writers);
        int end = (int)node.Length;
        Assert.Equal(model.AsSpan(0, end).ToArray(), await ReadAsync(node, 0, end));
        await node.FlushAsync();
        await node.CloseAsync();
        Assert.Equal(model.AsSpan(0, end).ToArray(), File.ReadAllBytes(path));
    }
}
