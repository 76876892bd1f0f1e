using ImageMount.Fuse.Protocol;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>INIT, with the messages of old and new kernels.</summary>
public sealed class NegotiationTests
{
    // What Linux 6.18 (7.45) offers, as seen with strace here, and what Linux 4.19 (7.27) offered.
    private const string Kernel618 = "4:7 4:45 4:131072 4:0x73fffffb 4:0x7ff z44";
    private const string Kernel419 = "4:7 4:27 4:131072 4:0x3ffffb";

    [Fact]
    public void Init_of_a_present_kernel_gives_the_literal_reply()
    {
        using var harness = new WireHarness(new RecordingFileSystem(), initialize: false);
        byte[] reply = harness.Send(26, 0, WireBytes.Parse(Kernel618))!;
        // flags: ASYNC_READ ATOMIC_O_TRUNC BIG_WRITES DO_READDIRPLUS READDIRPLUS_AUTO ASYNC_DIO PARALLEL_DIROPS
        // MAX_PAGES CACHE_SYMLINKS EXPLICIT_INVAL_DATA HANDLE_KILLPRIV_V2 SETXATTR_EXT INIT_EXT;
        // flags2: DIRECT_IO_ALLOW_MMAP NO_EXPORT_SUPPORT
        byte[] expected = WireBytes.Parse(
            $"4:80 4:0 8:{harness.LastUnique} 4:7 4:45 4:131072 4:0x72c4e029 2:64 2:48 4:131072 4:1 2:32 2:0 "
            + "4:0x50 4:0 z24");
        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(reply));
        Assert.True(harness.Server.Initialized.IsCompletedSuccessfully);
        Assert.Equal(45, harness.Info.Minor);
        Assert.Equal(WireHarness.Capacity, harness.Info.MaxWrite);
        Assert.Equal(WireHarness.Capacity, harness.Info.MaxRead);
    }

    [Fact]
    public void Init_of_an_old_kernel_has_no_second_flags_and_no_max_pages()
    {
        using var harness = new WireHarness(
            new RecordingFileSystem(), new FuseSessionOptions { Passthrough = true }, initialize: false);
        byte[] reply = harness.Send(26, 0, WireBytes.Parse(Kernel419))!;
        byte[] expected = WireBytes.Parse(
            $"4:80 4:0 8:{harness.LastUnique} 4:7 4:45 4:131072 4:0x4e029 2:64 2:48 4:131072 4:1 2:0 2:0 z32");
        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(reply));
        Assert.False(harness.Info.Passthrough);
        Assert.Equal(27, harness.Info.Minor);
    }

    [Fact]
    public void Init_of_a_kernel_without_MAX_PAGES_keeps_to_32_pages()
    {
        FuseNegotiation outcome = Negotiate(Kernel419, new FuseSessionOptions(), 1 << 20);
        Assert.Equal(32 * 4096, outcome.Info!.MaxWrite);
        Assert.Equal(32 * 4096, outcome.Info.MaxRead);
        Assert.Equal(0, outcome.MaxPages);
    }

    [Fact]
    public void Init_with_MAX_PAGES_asks_for_all_that_the_buffers_hold()
    {
        FuseNegotiation outcome = Negotiate(Kernel618, new FuseSessionOptions(), 1 << 20);
        Assert.Equal(256, outcome.MaxPages);
        Assert.Equal(1 << 20, outcome.Info!.MaxWrite);
    }

    [Theory]
    [InlineData("4:7 4:22 4:131072 4:0xffffffff")]
    [InlineData("4:7 4:5")]
    [InlineData("4:6 4:45 4:131072 4:0xffffffff")]
    [InlineData("4:7 4:45 4:1")]
    public void Init_that_is_too_old_or_too_short_is_refused_with_EPROTO(string body)
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem, initialize: false);
        byte[] reply = harness.Send(26, 0, WireBytes.Parse(body))!;
        Assert.Equal(-Errno.EPROTO, WireHarness.Error(reply));
        Assert.IsType<FuseException>(harness.Server.Initialized.Exception!.InnerException);
        Assert.Empty(fileSystem.Calls);
    }

    [Fact]
    public void Init_of_a_newer_major_is_answered_with_ours_and_comes_again()
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem, initialize: false);
        byte[] reply = harness.Send(26, 0, WireBytes.Parse("4:8 4:0 4:131072 4:0xffffffff"))!;
        byte[] expected = WireBytes.Parse($"4:80 4:0 8:{harness.LastUnique} 4:7 4:45 z56");
        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(reply));
        Assert.False(harness.Server.Initialized.IsCompleted);
        Assert.Equal(0, WireHarness.Error(harness.Send(26, 0, WireBytes.Parse(Kernel618))!));
        Assert.True(harness.Server.Initialized.IsCompletedSuccessfully);
        Assert.Equal(["init"], fileSystem.Calls);
    }

    [Fact]
    public void Init_whose_hook_fails_is_answered_with_its_errno()
    {
        var fileSystem = new RecordingFileSystem { Throws = new FuseException(Errno.ENOMEDIUM) };
        using var harness = new WireHarness(fileSystem, initialize: false);
        byte[] reply = harness.Send(26, 0, WireBytes.Parse(Kernel618))!;
        Assert.Equal(-Errno.ENOMEDIUM, WireHarness.Error(reply));
        Assert.IsType<FuseException>(harness.Server.Initialized.Exception!.InnerException);
    }

    [Fact]
    public void Passthrough_is_granted_with_its_stack_depth()
    {
        FuseNegotiation outcome = Negotiate(
            Kernel618, new FuseSessionOptions { Passthrough = true, PassthroughStackDepth = 2 }, 1 << 20);
        Assert.True(outcome.Info!.Passthrough);
        Assert.Equal(2u, outcome.MaxStackDepth);
    }

    [Fact]
    public void Passthrough_gives_way_to_the_writeback_cache()
    {
        FuseNegotiation outcome = Negotiate(
            Kernel618, new FuseSessionOptions { Passthrough = true, WritebackCache = true }, 1 << 20);
        Assert.True(outcome.Info!.WritebackCache);
        Assert.False(outcome.Info.Passthrough);
        Assert.Equal(0u, outcome.MaxStackDepth);
    }

    [Fact]
    public void Writeback_cache_is_not_asked_for_on_a_read_only_mount()
    {
        FuseNegotiation outcome = Negotiate(
            Kernel618, new FuseSessionOptions { ReadOnly = true, WritebackCache = true }, 1 << 20);
        Assert.False(outcome.Info!.WritebackCache);
    }

    [Theory]
    [InlineData(true, 1UL << 12)]
    [InlineData(false, 1UL << 25)]
    public void Invalidation_is_automatic_or_explicit_never_both(bool automatic, ulong flag)
    {
        FuseNegotiation outcome = Negotiate(
            Kernel618, new FuseSessionOptions { AutoInvalidateData = automatic }, 1 << 20);
        Assert.Equal(flag, outcome.Info!.Flags & ((1UL << 12) | (1UL << 25)));
    }

    [Fact]
    public void Numbers_are_brought_into_their_ranges()
    {
        FuseNegotiation outcome = Negotiate(
            Kernel618,
            new FuseSessionOptions { MaxBackground = 1 << 20, CongestionThreshold = 1 << 21, MaxReadahead = 4096 },
            1 << 20);
        Assert.Equal(ushort.MaxValue, outcome.MaxBackground);
        Assert.Equal(ushort.MaxValue, outcome.CongestionThreshold);
        Assert.Equal(4096u, outcome.MaxReadahead);
    }

    [Fact]
    public void Setxattr_of_an_old_kernel_has_the_short_structure()
    {
        var fileSystem = new RecordingFileSystem();
        using var harness = new WireHarness(fileSystem, initialize: false);
        harness.Send(26, 0, WireBytes.Parse(Kernel419));
        byte[] reply = harness.Send(21, 5, WireBytes.Parse("4:3 4:1 'user.x' 0 'abc'"))!;
        Assert.Equal(0, WireHarness.Error(reply));
        Assert.Equal("setxattr 5 user.x abc 1", fileSystem.LastCall);
    }

    private static FuseNegotiation Negotiate(string body, FuseSessionOptions options, int maxBytes) =>
        FuseNegotiation.Negotiate(WireBytes.Parse(body), options, maxBytes);
}
