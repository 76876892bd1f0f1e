using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>Logs by hand: what has to be replayed, what must not be, in the file and in memory.</summary>
public sealed class VhdxLogTests
{
    private const int Block = VhdxImages.Block;
    private const int Size = 3 * Block;
    private static readonly Guid s_log = new("5f1c0e3a-1111-2222-3333-444455556666");

    [Fact]
    public async Task Log_is_replayed_in_memory_for_reading_and_in_the_file_for_writing()
    {
        (VhdxByHand hand, byte[] content, byte[] bat) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        hand.LogEntry(0, s_log, 9, 0, [(VhdxByHand.Bat, bat, 0)], end, end);
        hand.AnnounceLog(s_log);
        await AssertReplayedAsync(hand.Image, content);
    }

    [Fact]
    public async Task Sequence_of_entries_goes_round_the_end_of_the_log_and_later_entries_win()
    {
        (VhdxByHand hand, byte[] content, byte[] bat) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        int at = VhdxByHand.LogLength - (3 * 4096);
        int tail = at;

        // Wrong entries first, then zeroes over all of the piece, then the right ones.
        at += hand.LogEntry(at, s_log, 7, tail, [(VhdxByHand.Bat, Sector(0x77), 0)], end, end);
        at += hand.LogEntry(at, s_log, 8, tail, [(VhdxByHand.Bat, null, 8192)], end, end);
        at += hand.LogEntry(at, s_log, 9, tail,
            [(VhdxByHand.Bat, bat, 0), (VhdxByHand.Bat + 8192, null, 4096)], end, end);
        Assert.True(at > VhdxByHand.LogLength, "the log does not go round");
        hand.AnnounceLog(s_log);
        await AssertReplayedAsync(hand.Image, content);
    }

    [Theory]
    [InlineData("torn")]
    [InlineData("descriptor")]
    [InlineData("data")]
    [InlineData("other log")]
    [InlineData("gap")]
    public async Task Entry_that_is_not_whole_or_not_ours_is_left_out(string what)
    {
        (VhdxByHand hand, byte[] content, byte[] bat) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        int at = hand.LogEntry(0, s_log, 5, 0, [(VhdxByHand.Bat, bat, 0)], end, end);
        hand.LogEntry(
            at, what == "other log" ? Guid.NewGuid() : s_log, what == "gap" ? 7ul : 6ul, 0,
            [(VhdxByHand.Bat, Sector(0x77), 0)], end, end);
        int broken = VhdxByHand.Log + at;
        switch (what)
        {
            case "torn":
                hand.Put64(broken + 4096 + 2000, 1);
                break;
            case "descriptor":
                hand.Put64(broken + 64 + 24, 5);
                break;
            case "data":
                hand.Put32(broken + 4096 + 4, 5);
                break;
            default:
                break;
        }

        hand.AnnounceLog(s_log);
        await AssertReplayedAsync(hand.Image, content);
    }

    [Fact]
    public async Task Older_whole_sequence_counts_when_the_newer_one_lost_its_beginning()
    {
        (VhdxByHand hand, byte[] content, byte[] bat) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        hand.LogEntry(0, s_log, 3, 0, [(VhdxByHand.Bat, bat, 0)], end, end);

        // Its tail is an entry that is gone.
        hand.LogEntry(65536, s_log, 12, 131072, [(VhdxByHand.Bat, Sector(0x77), 0)], end, end);
        hand.AnnounceLog(s_log);
        await AssertReplayedAsync(hand.Image, content);
    }

    [Fact]
    public async Task Replay_makes_the_file_as_long_as_the_log_says()
    {
        (VhdxByHand hand, byte[] content, byte[] bat) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        BitConverter.TryWriteBytes(bat.AsSpan(16), ((ulong)end << 20) | 6);
        hand.LogEntry(0, s_log, 1, 0, [(VhdxByHand.Bat, bat, 0)], end, end + 2);
        hand.AnnounceLog(s_log);
        content.AsSpan(2 * Block).Clear();
        await AssertReplayedAsync(hand.Image, content);
    }

    [Fact]
    public async Task Log_that_was_announced_but_never_written_holds_nothing()
    {
        (VhdxByHand hand, _, _) = await ImageAsync();
        hand.AnnounceLog(s_log);
        Assert.Equal(Size, (await VhdxImages.ReadAllAsync(hand.Image)).Length);
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(hand.Image);
        await graph.CloseAsync();
        var after = new VhdxByHand(device.Content);
        Assert.Equal(0UL, after.U64(after.CurrentHeader + 48));
    }

    [Fact]
    public async Task Log_without_a_whole_entry_is_refused()
    {
        (VhdxByHand hand, _, _) = await ImageAsync();
        hand.LogEntry(0, s_log, 1, 0, [(VhdxByHand.Bat, Sector(1), 0)], 1, 1);
        hand.Put64(VhdxByHand.Log + 5000, 1).AnnounceLog(s_log);
        foreach (OpenFlags flags in (OpenFlags[])[TestGraph.ReadOnly, TestGraph.Writable])
        {
            byte[] before = (byte[])hand.Image.Clone();
            Assert.Equal(BlockErrorKind.InvalidData, (await VhdxImages.RefusedAsync(hand.Image, flags)).Kind);
            Assert.Equal(before, hand.Image);
        }
    }

    [Fact]
    public async Task File_that_is_shorter_than_its_log_knows_it_is_refused()
    {
        (VhdxByHand hand, _, _) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        hand.LogEntry(0, s_log, 1, 0, [(VhdxByHand.Bat, Sector(1), 0)], end + 1, end + 1);
        hand.AnnounceLog(s_log);
        Assert.Contains("cut off", (await VhdxImages.RefusedAsync(hand.Image)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(VhdxByHand.Header1)]
    [InlineData(VhdxByHand.Log + 8192)]
    [InlineData(1L << 40)]
    [InlineData(VhdxByHand.Bat + 512)]
    public async Task Log_may_not_change_headers_itself_or_what_lies_outside(long offset)
    {
        (VhdxByHand hand, _, _) = await ImageAsync();
        int end = hand.Image.Length >> 20;
        hand.LogEntry(0, s_log, 1, 0, [(offset, Sector(1), 0)], end, end);
        hand.AnnounceLog(s_log);
        Assert.Equal(BlockErrorKind.InvalidData, (await VhdxImages.RefusedAsync(hand.Image)).Kind);
        Assert.Equal(BlockErrorKind.InvalidData, (await VhdxImages.RefusedAsync(hand.Image, TestGraph.Writable)).Kind);
    }

    [Fact]
    public async Task Our_own_log_is_what_the_specification_says()
    {
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Size);
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image);
        await graph.Root.WriteAsync(0, TestPattern.Make(Size, 0, 1));
        await graph.Root.FlushAsync();
        var hand = new VhdxByHand(device.Content);
        Span<byte> log = hand.Image.AsSpan(VhdxByHand.Log);
        Assert.True(log.StartsWith("loge"u8));
        int length = BitConverter.ToInt32(log[8..]);
        Assert.Equal(8192, length);
        uint checksum = BitConverter.ToUInt32(log[4..]);
        log.Slice(4, 4).Clear();
        Assert.Equal(VhdxByHand.Crc32C(log[..length]), checksum);
        Assert.Equal((ulong)VhdxByHand.Bat, BitConverter.ToUInt64(log[(64 + 16)..]));
        Assert.True(BitConverter.ToInt64(log[48..]) <= hand.Image.Length);
        await graph.CloseAsync();
    }

    /// <summary>
    /// An image whose content is in the file but whose BAT says nothing of it; the log is to say it.
    /// </summary>
    private static async Task<(VhdxByHand Hand, byte[] Content, byte[] Bat)> ImageAsync()
    {
        byte[] content = TestPattern.Make(Size, 0, 4);
        byte[] image = await VhdxImages.WriteAsync(
            await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Size), 0, content);
        var hand = new VhdxByHand(image);
        byte[] bat = image.AsSpan(VhdxByHand.Bat, 4096).ToArray();
        hand.Image.AsSpan(VhdxByHand.Bat, 4096).Clear();
        return (hand, content, bat);
    }

    private static byte[] Sector(byte value)
    {
        var sector = new byte[4096];
        sector.AsSpan().Fill(value);
        return sector;
    }

    private static async Task AssertReplayedAsync(byte[] image, byte[] content)
    {
        byte[] before = (byte[])image.Clone();
        Assert.Equal(content, await VhdxImages.ReadAllAsync(image));
        Assert.Equal(before, image);
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image);
        await using (graph)
        {
            Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
            DeviceInfo info = await graph.Root.DescribeAsync();
            Assert.False(info.DirtyFlag);
        }

        var after = new VhdxByHand(device.Content);
        Assert.Equal(0UL, after.U64(after.CurrentHeader + 48));
        Assert.NotEqual(new VhdxByHand(before).U64(after.CurrentHeader + 16), after.U64(after.CurrentHeader + 16));
        Assert.Equal(content, await VhdxImages.ReadAllAsync(device.Content));
        await VhdxImages.AssertSoundAsync(device.Content, "replayed");
    }
}
