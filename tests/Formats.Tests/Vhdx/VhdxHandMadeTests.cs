using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>Images that no program here makes: structures changed by hand, read and written.</summary>
public sealed class VhdxHandMadeTests
{
    private const int Block = VhdxImages.Block;
    private const int Size = 3 * Block;

    [Fact]
    public async Task Header_with_the_larger_number_counts_unless_it_is_damaged()
    {
        byte[] image = await EmptyAsync();
        var hand = new VhdxByHand(image);
        int current = hand.CurrentHeader;
        int other = current == VhdxByHand.Header1 ? VhdxByHand.Header2 : VhdxByHand.Header1;

        // The newer one points to a log where there cannot be one; so it is seen which of them was used.
        hand.Put64(current + 72, 12345).SealHeader(current);
        Assert.Contains("log", (await VhdxImages.RefusedAsync(hand.Image)).Message, StringComparison.Ordinal);
        hand.Put64(current + 500, 1); // Reserved, but under the checksum.
        Assert.Equal(Size, (await VhdxImages.ReadAllAsync(hand.Image)).Length);
        hand.Put64(other + 500, 1);
        Assert.Equal(BlockErrorKind.InvalidData, (await VhdxImages.RefusedAsync(hand.Image)).Kind);
    }

    [Fact]
    public async Task Equal_headers_are_accepted_and_different_ones_with_one_number_are_not()
    {
        var hand = new VhdxByHand(await EmptyAsync());
        hand.Put(VhdxByHand.Header2, hand.Image.AsSpan(VhdxByHand.Header1, 4096));
        byte[] written = await VhdxImages.WriteAsync((byte[])hand.Image.Clone(), 100, TestPattern.Make(5000, 100, 1));
        await VhdxImages.AssertSoundAsync(written, "written on");
        hand.Put64(VhdxByHand.Header2 + 16, 77).SealHeader(VhdxByHand.Header2);
        Assert.Equal(BlockErrorKind.InvalidData, (await VhdxImages.RefusedAsync(hand.Image)).Kind);
    }

    [Fact]
    public async Task Damaged_first_region_table_is_replaced_by_the_second_and_reported()
    {
        var hand = new VhdxByHand(await VhdxImages.WriteAsync(await EmptyAsync(), 0, TestPattern.Make(4096, 0, 1)));
        hand.Put64(VhdxByHand.Regions1 + 32, 0x7FFF_FFFF);
        Assert.Equal(TestPattern.Make(4096, 0, 1), (await VhdxImages.ReadAllAsync(hand.Image))[..4096]);
        Assert.Equal(1, (await VhdxImages.CheckAsync(hand.Image)).Corruptions);
        hand.Put64(VhdxByHand.Regions2 + 32, 0x7FFF_FFFF);
        Assert.Equal(BlockErrorKind.InvalidData, (await VhdxImages.RefusedAsync(hand.Image)).Kind);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Unknown_region_is_refused_by_name_when_it_is_required(bool isRequired)
    {
        var hand = new VhdxByHand(await EmptyAsync());
        int length = hand.Image.Length;
        hand.Resize(length + Block);
        var id = new Guid("01234567-89ab-cdef-0123-456789abcdef");
        int entry = VhdxByHand.Regions1 + 16 + 64;
        hand.Put(entry, id.ToByteArray()).Put64(entry + 16, (ulong)length).Put32(entry + 24, Block)
            .Put32(entry + 28, isRequired ? 1u : 0u).Put32(VhdxByHand.Regions1 + 8, 3).SealRegions(VhdxByHand.Regions1);
        if (isRequired)
        {
            BlockException e = await VhdxImages.RefusedAsync(hand.Image);
            Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
            Assert.Contains("01234567-89ab-cdef", e.Message, StringComparison.Ordinal);
            return;
        }

        // Not known, but somebody's: no block may be put there.
        byte[] written = await VhdxImages.WriteAsync(hand.Image, 0, TestPattern.Make(Size, 0, 1));
        Assert.False(written.AsSpan(length, Block).ContainsAnyExcept((byte)0));
        Assert.Equal(TestPattern.Make(Size, 0, 1), await VhdxImages.ReadAllAsync(written));
    }

    [Fact]
    public async Task Unknown_required_metadata_item_is_refused_by_name()
    {
        var hand = new VhdxByHand(await EmptyAsync());
        int entry = VhdxByHand.Metadata + 32 + (5 * 32);
        hand.Put(entry, new Guid("11112222-3333-4444-5555-666677778888").ToByteArray())
            .Put32(entry + 16, 0x20000).Put32(entry + 20, 8).Put32(entry + 24, 4)
            .Put32(VhdxByHand.Metadata + 8, 6 << 16);
        BlockException e = await VhdxImages.RefusedAsync(hand.Image);
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains("11112222-3333", e.Message, StringComparison.Ordinal);
        hand.Put32(entry + 24, 1); // The user's, and nobody has to know it.
        Assert.Equal(Size, (await VhdxImages.ReadAllAsync(hand.Image)).Length);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Every_state_without_content_reads_as_zeroes_and_can_be_written(int state)
    {
        var hand = new VhdxByHand(await EmptyAsync());
        int end = hand.Image.Length;
        hand.Resize(end + (2 * Block));
        hand.Image.AsSpan(end).Fill(0xAA);

        // One with a place that holds something else (for states 1 and 3 its own), one without.
        hand.Entry(0, state, end >> 20).Entry(1, state, 0).Entry(2, 6, (end >> 20) + 1);
        byte[] expected = new byte[Size];
        expected.AsSpan(2 * Block).Fill(0xAA);
        Assert.Equal(expected, await VhdxImages.ReadAllAsync(hand.Image));
        await VhdxImages.AssertSoundAsync(hand.Image, $"state {state}");
        byte[] part = TestPattern.Make(700, Block - 300, 7);
        byte[] written = await VhdxImages.WriteAsync(hand.Image, Block - 300, part);
        part.CopyTo(expected, Block - 300);
        Assert.Equal(expected, await VhdxImages.ReadAllAsync(written));
        await VhdxImages.AssertSoundAsync(written, $"state {state}, written");
    }

    [Theory]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(7)]
    public async Task State_that_does_not_exist_is_an_error_where_it_is_and_nowhere_else(int state)
    {
        var hand = new VhdxByHand(await VhdxImages.WriteAsync(await EmptyAsync(), 0, TestPattern.Make(Size, 0, 1)));
        hand.Put64(VhdxByHand.Bat + 8, (hand.U64(VhdxByHand.Bat + 8) & ~7UL) | (uint)state);
        (Graph graph, _) = await VhdxImages.OpenAsync(hand.Image, TestGraph.ReadOnly);
        await using (graph)
        {
            var found = new byte[Block];
            await graph.Root.ReadAsync(0, found);
            Assert.Equal(TestPattern.Make(Block, 0, 1), found);
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await graph.Root.ReadAsync(Block - 1, found));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }

        Assert.True((await VhdxImages.CheckAsync(hand.Image)).Corruptions > 0);
    }

    [Theory]
    [InlineData(0, "metadata")] // The header section.
    [InlineData(3, "metadata")] // The BAT.
    [InlineData(200, "outside")]
    public async Task Block_over_the_metadata_or_outside_is_neither_read_nor_written(int placeMiB, string why)
    {
        var hand = new VhdxByHand(await EmptyAsync());
        hand.Entry(1, 6, placeMiB);
        byte[] before = (byte[])hand.Image.Clone();
        (Graph graph, _) = await VhdxImages.OpenAsync(hand.Image);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(Block, new byte[10]));
        Assert.Contains(why, e.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.WriteAsync(Block, new byte[10]));
        await graph.CloseAsync();
        Assert.Equal(before[VhdxByHand.Log..], hand.Image[VhdxByHand.Log..]);
        Assert.True((await VhdxImages.CheckAsync(hand.Image)).Corruptions > 0);
    }

    [Fact]
    public async Task Two_blocks_at_one_place_are_read_but_nothing_is_written()
    {
        var hand = new VhdxByHand(await VhdxImages.WriteAsync(await EmptyAsync(), 0, TestPattern.Make(Size, 0, 1)));
        hand.Put64(VhdxByHand.Bat + 8, hand.U64(VhdxByHand.Bat));
        byte[] before = (byte[])hand.Image.Clone();
        byte[] read = await VhdxImages.ReadAllAsync(hand.Image);
        Assert.Equal(read[..Block], read[Block..(2 * Block)]);
        (Graph graph, _) = await VhdxImages.OpenAsync(hand.Image);
        await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.WriteAsync(0, new byte[10]));
        await graph.CloseAsync();
        Assert.Equal(before, hand.Image);
        Assert.Equal(1, (await VhdxImages.CheckAsync(hand.Image)).Corruptions);
    }

    [Fact]
    public async Task Last_block_may_end_with_the_disk_in_the_file()
    {
        // As qemu-img lays out a fixed disk of an odd size.
        var hand = new VhdxByHand(await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Block + 1024));
        int end = hand.Image.Length;
        hand.Resize(end + Block + 1024).Entry(0, 6, end >> 20).Entry(1, 6, (end >> 20) + 1);
        byte[] content = TestPattern.Make(Block + 1024, 0, 3);
        byte[] written = await VhdxImages.WriteAsync(hand.Image, 0, content);
        Assert.Equal(content, await VhdxImages.ReadAllAsync(written));
        await VhdxImages.AssertSoundAsync(written, "a last block that is cut off");
    }

    [Fact]
    public async Task Opening_for_writing_without_writing_changes_nothing()
    {
        byte[] image = await EmptyAsync();
        byte[] before = (byte[])image.Clone();
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image);
        await graph.Root.FlushAsync();
        await graph.CloseAsync();
        Assert.Equal(before, device.Content);
    }

    [Fact]
    public async Task First_write_changes_both_guids_and_both_headers_and_closing_empties_the_log()
    {
        byte[] image = await EmptyAsync();
        var before = new VhdxByHand(image);
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image);
        await graph.Root.WriteAsync(0, new byte[512]);
        await graph.Root.FlushAsync();
        var during = new VhdxByHand(device.Content);
        Assert.NotEqual(0UL, during.U64(during.CurrentHeader + 48));
        await graph.CloseAsync();
        var after = new VhdxByHand(device.Content);
        Assert.NotEqual(before.U64(before.CurrentHeader + 16), after.U64(after.CurrentHeader + 16));
        Assert.NotEqual(before.U64(before.CurrentHeader + 32), after.U64(after.CurrentHeader + 32));
        foreach (int header in (int[])[VhdxByHand.Header1, VhdxByHand.Header2])
        {
            Assert.Equal(0UL, after.U64(header + 48));
            Assert.Equal(0UL, after.U64(header + 56));
            Assert.Equal(after.U64(after.CurrentHeader + 32), after.U64(header + 32));
        }
    }

    [Fact]
    public async Task Freed_places_are_used_again_and_show_no_old_content()
    {
        byte[] image = await VhdxImages.WriteAsync(await EmptyAsync(), 0, TestPattern.Make(Size, 0, 1));
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image);
        await using (graph)
        {
            for (int i = 0; i < 8; i++)
            {
                await graph.Root.DiscardAsync(i % 3 * Block, Block);
                await graph.Root.FlushAsync();
                await graph.Root.WriteAsync((i % 3 * Block) + 5000, TestPattern.Make(100, 0, i));
                var found = new byte[Block];
                await graph.Root.ReadAsync(i % 3 * Block, found);
                Assert.Equal(TestPattern.Make(100, 0, i), found[5000..5100]);
                Assert.False(found.AsSpan(0, 5000).ContainsAnyExcept((byte)0), $"round {i}");
                Assert.False(found.AsSpan(5100).ContainsAnyExcept((byte)0), $"round {i}");
            }
        }

        Assert.True(
            device.Content.Length <= image.Length + Block, $"the file grew to {device.Content.Length >> 20} MiB");
        await VhdxImages.AssertSoundAsync(device.Content, "after coming and going");
    }

    private static Task<byte[]> EmptyAsync() => VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Size);
}
