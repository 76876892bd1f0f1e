using ImageMount.Mounting.Tests.Partitions;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Tests.Tree;

/// <summary>The rules for files that show the same bytes, without any kernel.</summary>
public sealed class CoherenceTests
{
    private static readonly CoherenceRules Writeback = new(PageCache: true, DelayedWrites: true, Passthrough: null);

    [Fact]
    public async Task Readers_share_the_page_cache_and_keep_it()
    {
        (Coherence rules, DiskFile disk, DiskFile p1, _) = await MakeAsync(Writeback);
        Assert.Equal(Cached(keep: true), Plan(rules.Open(disk, true, false)));
        Assert.Equal(Cached(keep: true), Plan(rules.Open(p1, true, false)));
    }

    [Fact]
    public async Task The_later_of_two_overlapping_files_is_direct_when_one_writes()
    {
        (Coherence rules, DiskFile disk, DiskFile p1, DiskFile p2) = await MakeAsync(Writeback);
        Assert.Equal(OpenCaching.Cached, rules.Open(p1, true, true).Caching);
        Assert.Equal(OpenCaching.Cached, rules.Open(p2, true, true).Caching); // they do not overlap

        OpenPlan reader = rules.Open(disk, true, false);
        Assert.Equal(OpenCaching.Direct, reader.Caching);
        Assert.Equal([p1, p2], reader.WriteBackFirst);
    }

    [Fact]
    public async Task A_writer_beside_a_cached_reader_is_direct_and_tells_it()
    {
        (Coherence rules, DiskFile disk, DiskFile p1, _) = await MakeAsync(Writeback);
        rules.Open(disk, true, false);
        Assert.Equal(OpenCaching.Direct, rules.Open(p1, true, true).Caching);

        Assert.Empty(rules.TakeStale(p1));
        await p1.WriteAsync(0, new byte[1], WriteFlags.None, default);
        Assert.Equal([disk], rules.TakeStale(p1));
        Assert.Empty(rules.TakeStale(p1)); // told once
        await p1.ZeroAsync(0, 10, true, default);
        Assert.Equal([disk], rules.TakeStale(p1));
    }

    [Fact]
    public async Task A_file_opened_after_writes_elsewhere_drops_its_page_cache_once()
    {
        (Coherence rules, DiskFile disk, DiskFile p1, _) = await MakeAsync(Writeback);
        OpenAndClose(rules, disk, writes: false);
        rules.Open(p1, true, true);
        await p1.WriteAsync(0, new byte[1], WriteFlags.None, default);
        rules.Close(p1, OpenCaching.Cached, true);

        Assert.Equal(Cached(keep: false), Plan(rules.Open(disk, true, false)));
        rules.Close(disk, OpenCaching.Cached, false);
        Assert.Equal(Cached(keep: true), Plan(rules.Open(disk, true, false)));
    }

    [Fact]
    public async Task A_partition_does_not_care_for_writes_to_another()
    {
        (Coherence rules, DiskFile disk, DiskFile p1, DiskFile p2) = await MakeAsync(Writeback);
        OpenAndClose(rules, p2, writes: false);
        rules.Open(p1, true, true);
        await p1.WriteAsync(0, new byte[1], WriteFlags.None, default);
        Assert.Equal(Cached(keep: true), Plan(rules.Open(p2, true, true)));
        Assert.Empty(rules.TakeStale(p1)); // nobody that overlaps has anything cached
        Assert.NotNull(disk);
    }

    [Fact]
    public async Task Files_opened_for_writing_only_are_direct()
    {
        (Coherence rules, DiskFile disk, _, _) = await MakeAsync(Writeback);
        Assert.Equal(OpenCaching.Direct, rules.Open(disk, reads: false, writes: true).Caching);
    }

    [Fact]
    public async Task Without_page_cache_everything_is_direct()
    {
        (Coherence rules, DiskFile disk, DiskFile p1, _) = await MakeAsync(new(false, false, null));
        Assert.Equal(OpenCaching.Direct, rules.Open(disk, true, true).Caching);
        Assert.Equal(OpenCaching.Direct, rules.Open(p1, true, true).Caching);
        Assert.False(rules.MayHoldDelayedWrites(disk));
    }

    [Fact]
    public async Task A_passed_through_file_is_so_for_readers_and_direct_for_writers()
    {
        (_, DiskFile disk, DiskFile p1, DiskFile p2) = await MakeAsync(Writeback);
        var rules = new Coherence(new(true, false, disk), [disk, p1, p2]);
        Assert.Equal(OpenCaching.Passthrough, rules.Open(disk, true, false).Caching);
        Assert.Equal(OpenCaching.Direct, rules.Open(disk, true, true).Caching);
        rules.Close(disk, OpenCaching.Direct, true);

        // Its readers see the host file itself: a cached writer of a partition disturbs nobody.
        Assert.Equal(OpenCaching.Cached, rules.Open(p1, true, true).Caching);

        rules.DisablePassthrough();
        Assert.Equal(OpenCaching.Direct, rules.Open(disk, true, false).Caching);
    }

    [Fact]
    public async Task Delayed_writes_are_possible_only_while_a_cached_writer_is_open()
    {
        (Coherence rules, DiskFile disk, _, _) = await MakeAsync(Writeback);
        Assert.False(rules.MayHoldDelayedWrites(disk));
        rules.Open(disk, true, true);
        Assert.True(rules.MayHoldDelayedWrites(disk));
        rules.Close(disk, OpenCaching.Cached, true);
        Assert.False(rules.MayHoldDelayedWrites(disk));
    }

    private static void OpenAndClose(Coherence rules, DiskFile file, bool writes) =>
        rules.Close(file, rules.Open(file, true, writes).Caching, writes);

    private static (OpenCaching, bool, int) Cached(bool keep) => (OpenCaching.Cached, keep, 0);

    private static (OpenCaching, bool, int) Plan(OpenPlan plan) =>
        (plan.Caching, plan.KeepCache, plan.WriteBackFirst.Count);

    private static async Task<(Coherence, DiskFile Disk, DiskFile P1, DiskFile P2)> MakeAsync(CoherenceRules rules)
    {
        MountTree tree = await MountTree.CreateAsync(
            new DiskBuilder(100).Entry(0, 0, 0x83, 10, 10).Entry(0, 1, 0x83, 20, 10).Sign().Node,
            new MountTreeOptions { Policy = new(false, false, true) });
        return (new Coherence(rules, tree.DiskFiles), tree.DiskFiles[0], tree.DiskFiles[1], tree.DiskFiles[2]);
    }
}
