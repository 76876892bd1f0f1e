using ImageMount.Core.Info;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Luks;

/// <summary>The payload: random operations, crashes, many threads, no garbage.</summary>
public sealed class LuksDeviceTests
{
    /// <summary>Small keys make a small header: 1 MiB.</summary>
    private const string Small = "cipher-alg=aes-128,cipher-mode=cbc," + LuksImages.Cheap;

    [Theory]
    [InlineData(Small, 512, 1)]
    [InlineData("cipher-mode=xts," + LuksImages.Cheap, 512, 2)]
    [InlineData("cipher-alg=twofish-256," + LuksImages.Cheap, 512, 3)]
    [InlineData("version=2,sector-size=4096," + LuksImages.CheapArgon, 4096, 4)]
    [InlineData("version=2,sector-size=2048,cipher-mode=cbc,ivgen-alg=essiv," + LuksImages.CheapArgon, 2048, 5)]
    public async Task Random_operations_match_a_byte_array(string options, int sectorSize, int seed)
    {
        byte[] content = TestPattern.Make(150 * 4096, 0, seed);
        byte[] empty = await MakeAsync(options, content);
        await new ModelTest
        {
            Seed = seed,
            Steps = 200,
            Initial = content,
            Unit = 4096,
            Largest = 200 << 10,
            ResizeGranularity = sectorSize,
            CreateAsync = () =>
            {
                var device = new MemoryDevice((byte[])empty.Clone());
                return new(flags =>
                {
                    device = new MemoryDevice(device.Content);
                    return OpenOverAsync(new BlockNode("image", "test", device), flags);
                });
            },
        }.RunAsync();
    }

    [SkippableTheory]
    [InlineData(Small, 1)]
    [InlineData(LuksImages.Cheap, 2)]
    [InlineData("version=2,sector-size=4096," + LuksImages.CheapArgon, 3)]
    public async Task Power_cut_at_any_change_leaves_sectors_old_or_new(string options, int seed)
    {
        byte[] content = TestPattern.Make(64 << 10, 0, seed);
        await new CrashTest
        {
            Image = await MakeAsync(options, content),
            InitialDisk = content,
            Seed = seed,
            OpenAsync = OpenOverAsync,
            MixturesPerCut = 1,
        }.RunAsync(guest => guest.RunMixedAsync(24, 12 << 10));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Many_threads_at_once(bool asynchronous)
    {
        const int Tasks = 8;
        const int Share = 64 << 10;
        var device = new MemoryDevice(await MakeAsync("cipher-mode=xts," + LuksImages.Cheap, new byte[Tasks * Share]))
        {
            CompletesAsynchronously = asynchronous,
        };
        Graph graph = await OpenOverAsync(new BlockNode("image", "test", device), TestGraph.Writable);
        await Task.WhenAll(Enumerable.Range(0, Tasks).Select(worker => Task.Run(async () =>
        {
            var random = new Random(worker);
            var model = new byte[Share];
            for (int i = 0; i < 60; i++)
            {
                int at = random.Next(Share);
                int count = random.Next(1, Share - at + 1);
                TestPattern.Fill(model.AsSpan(at, count), at, i);
                await graph.Root.WriteAsync((worker * Share) + at, model.AsMemory(at, count));
                var found = new byte[Share];
                await graph.Root.ReadAsync(worker * Share, found);
                if (i == 0)
                {
                    model = found;
                }

                TestPattern.AssertEqual(model, found, 0, $"task {worker}, step {i}");
            }
        })));
        await graph.CloseAsync();
    }

    [Fact]
    public async Task Warm_requests_allocate_nothing()
    {
        byte[] image = await MakeAsync("cipher-mode=xts," + LuksImages.Cheap, new byte[1 << 20]);
        Graph graph = await OpenOverAsync(new BlockNode("image", "test", new QuietDevice(image)), TestGraph.Writable);
        var buffer = new byte[128 << 10];
        await graph.Root.WriteAsync(0, buffer);
        Assert.Equal(0, Allocations.Least(50, () =>
        {
            for (int i = 0; i < 10; i++)
            {
                Assert.True(graph.Root.ReadAsync(4096, buffer).IsCompletedSuccessfully);
            }
        }));
        await graph.CloseAsync();
    }

    [Fact]
    public async Task Closing_wipes_the_keys()
    {
        byte[] image = await MakeAsync(Small, new byte[4096]);
        OpenFlags flags = LuksImages.Flags();
        Graph graph = await OpenOverAsync(new BlockNode("image", "test", new MemoryDevice(image)), flags);
        BlockNode root = graph.Root;
        await graph.CloseAsync();
        flags.Secrets.Dispose();
        Assert.Null(flags.Secrets.Default);

        // The cipher's keys are zeroes now: what it makes of the sectors is not what is stored.
        var found = new byte[4096];
        await root.Device.ReadAsync(0, found, CancellationToken.None);
        Assert.NotEqual(new byte[4096], found);
    }

    [Fact]
    public async Task Locked_image_says_what_it_is_and_gives_nothing_away()
    {
        byte[] image = await MakeAsync(Small, new byte[4096]);
        var flags = new OpenFlags { AllowLocked = true };
        await using Graph graph = await TestGraph.Opener.OpenOverAsync(
            "luks", new BlockNode("image", "test", new MemoryDevice(image)), flags);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.True(info.Encrypted);
        Assert.Equal(4096, info.VirtualSize);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(0, new byte[512]));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        CheckReport report = await ((ICheckable)graph.Root.Device).CheckAsync(CancellationToken.None);
        Assert.Equal(0, report.Corruptions);
    }

    internal static async Task<byte[]> MakeAsync(string options, byte[] content)
    {
        using var dir = new TempDir();
        string path = dir.File("disk.luks");
        await LuksImages.CreateAsync(path, "luks", options, content);
        return File.ReadAllBytes(path);
    }

    internal static ValueTask<Graph> OpenOverAsync(BlockNode node, OpenFlags flags) =>
        TestGraph.Opener.OpenOverAsync(
            "luks", node, flags.Secrets.IsEmpty ? flags with { Secrets = LuksImages.Secrets() } : flags);

    /// <summary>Bytes in memory, without a log: the tests' own device allocates.</summary>
    private sealed class QuietDevice(byte[] content) : BlockDevice
    {
        public override long Length => content.Length;

        public override BlockCapabilities Capabilities => BlockCapabilities.Write;

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            content.AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span);
            return default;
        }

        public override ValueTask WriteAsync(
            long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
        {
            buffer.Span.CopyTo(content.AsSpan((int)offset));
            return default;
        }
    }
}
