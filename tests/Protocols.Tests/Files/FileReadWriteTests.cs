using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>Contents: every alignment, both cache modes, on file systems that differ.</summary>
public sealed class FileReadWriteTests(ITestOutputHelper output) : FileTestBase(output)
{
    /// <summary>File system, direct, length.</summary>
    public static TheoryData<string, bool, int> Places()
    {
        var data = new TheoryData<string, bool, int>();
        foreach (string place in (string[])["/tmp", "/dev/shm"])
        {
            foreach (int length in (int[])[1, 511, 512, 4096, 65536, 100_001, 262_144 + 512, 300_000])
            {
                data.Add(place, false, length);
                data.Add(place, true, length);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Places))]
    public async Task File_read_at_odd_places_gives_its_bytes(string place, bool direct, int length)
    {
        byte[] content = Pattern(length);
        BlockNode node = Open(NewFile(content, place), ReadOnly with { Direct = direct });
        Assert.Equal(direct, IsDirect(node));
        Assert.Equal(length, node.Length);
        Assert.Equal(content, await ReadAsync(node, 0, length));
        var random = new Random(length);
        for (int i = 0; i < 200; i++)
        {
            int offset = random.Next(length);
            int count = random.Next(1, Math.Min(length - offset, 20_000) + 1);
            Assert.Equal(content.AsSpan(offset, count).ToArray(), await ReadAsync(node, offset, count));
        }
    }

    [Theory]
    [MemberData(nameof(Places))]
    public async Task File_under_random_requests_equals_its_model(string place, bool direct, int length)
    {
        int seed = Environment.TickCount;
        Output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        byte[] model = Pattern(length);
        string path = NewFile(model, place);
        BlockNode node = Open(path, Writable with { Direct = direct });
        for (int i = 0; i < 400; i++)
        {
            model = await StepAsync(node, model, random);
        }

        Assert.Equal(model, await ReadAsync(node, 0, model.Length));
        await node.FlushAsync();
        await node.CloseAsync();
        Assert.Equal(model, File.ReadAllBytes(path));
    }

    [Fact]
    public async Task File_read_past_its_end_is_out_of_range()
    {
        BlockNode node = Open(NewFile(Pattern(1000)), ReadOnly);
        var e = await Assert.ThrowsAsync<BlockException>(() => ReadAsync(node, 900, 101));
        Assert.Equal(BlockErrorKind.OutOfRange, e.Kind);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task File_shortened_by_somebody_else_is_an_error_not_zeroes(bool direct)
    {
        string path = NewFile(Pattern(100_000));
        BlockNode node = Open(path, ReadOnly with { Direct = direct });
        using (FileStream stream = File.OpenWrite(path))
        {
            stream.SetLength(50_000);
        }

        var e = await Assert.ThrowsAsync<BlockException>(() => ReadAsync(node, 40_960, 20_480));
        Output.WriteLine(e.Describe());
        Assert.Equal(BlockErrorKind.IoError, e.Kind);
        Assert.Equal(50_000, e.Offset);
        Assert.Contains("ends inside the disk", e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task File_opened_for_reading_refuses_writes()
    {
        BlockNode node = Open(NewFile(Pattern(1000)), ReadOnly);
        Assert.False(node.CanWrite);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await node.WriteAsync(0, new byte[10]));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task File_write_that_is_durable_arrives(bool direct)
    {
        string path = NewFile(Pattern(10_001));
        BlockNode node = Open(path, Writable with { Direct = direct });
        Assert.True((node.Capabilities & BlockCapabilities.Fua) != 0);
        byte[] bytes = Pattern(9000, 7);
        await node.WriteAsync(1001, bytes, WriteFlags.Fua);
        Assert.Equal(bytes, File.ReadAllBytes(path).AsSpan(1001).ToArray());
    }

    [SkippableFact]
    public async Task File_on_a_file_system_without_direct_io_warns_and_works()
    {
        string path = Path.Combine(Mount("ramfs", "none", "mode=700"), "disk");
        File.WriteAllBytes(path, Pattern(5000));
        BlockNode node = Open(path, Writable with { Direct = true });
        Assert.False(IsDirect(node));
        string warning = Assert.Single(Warnings);
        Output.WriteLine(warning);
        Assert.Contains("direct I/O", warning, StringComparison.Ordinal);
        Assert.Equal(Pattern(5000), await ReadAsync(node, 0, 5000));
    }

    [Theory]
    [InlineData(false, 4096)]
    [InlineData(true, 4096)]
    [InlineData(true, 1 << 20)]
    public void File_warm_requests_allocate_nothing(bool direct, int size)
    {
        BlockNode node = Open(NewFile(Pattern(4 << 20)), Writable with { Direct = direct });
        Assert.Equal(direct, IsDirect(node));
        using BufferLease lease = BufferPool.Shared.Rent(size);
        lease.Span.Fill(3);
        int rounds = direct ? 300 : 3000;
        Memory<byte> memory = lease.Memory;
        Assert.Equal(0, Allocations.Least(20, () => Transfer(node, memory, rounds)));
    }

    [Fact]
    public async Task File_describes_the_space_it_takes()
    {
        string path = NewFile([]);
        using (FileStream stream = File.OpenWrite(path))
        {
            stream.SetLength(64 << 20);
            stream.Write(Pattern(8192));
            stream.Flush(flushToDisk: true);
        }

        DeviceInfo info = await Open(path, ReadOnly).DescribeAsync();
        Assert.Equal(64 << 20, info.VirtualSize);
        Assert.InRange(info.ActualSize!.Value, 8192, 1 << 20);
    }

    [Fact]
    public void File_under_two_names_has_one_identity()
    {
        string path = NewFile(Pattern(10));
        string link = path + ".link";
        File.CreateSymbolicLink(link, path);
        string other = NewFile(Pattern(10));
        string Identity(string name) => ((IHasIdentity)Open(name, ReadOnly).Device).Identity;
        Assert.Equal(Identity(path), Identity(link));
        Assert.NotEqual(Identity(path), Identity(other));
    }

    [Fact]
    public void File_offers_its_handle_for_passthrough()
    {
        BlockNode node = Open(NewFile(Pattern(100)), ReadOnly);
        Assert.True(node.TryGetHostFile(out HostFileRegion region));
        Assert.Equal(0, region.Offset);
        byte[] bytes = new byte[100];
        Assert.Equal(100, RandomAccess.Read(region.Handle, bytes, 0));
        Assert.Equal(Pattern(100), bytes);
    }

    private static void Transfer(BlockNode node, Memory<byte> buffer, int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            long offset = (long)i * buffer.Length % node.Length;
            ValueTask read = node.ReadAsync(offset, buffer);
            Assert.True(read.IsCompletedSuccessfully);
#if DEBUG
            if (node.Limits.RequestAlignment > 1)
            {
                // Aligned writes pass through an async method, which debug builds turn into an object on the heap.
                continue;
            }
#endif
            ValueTask write = node.WriteAsync(offset, buffer);
            Assert.True(write.IsCompletedSuccessfully);
        }
    }

    private static async Task<byte[]> StepAsync(BlockNode node, byte[] model, Random random)
    {
        int offset = random.Next(model.Length);
        int count = random.Next(1, Math.Min(model.Length - offset, 30_000) + 1);
        switch (random.Next(8))
        {
            case 0 or 1 or 2:
                byte[] bytes = new byte[count];
                random.NextBytes(bytes);
                await node.WriteAsync(offset, bytes, (WriteFlags)random.Next(2));
                bytes.CopyTo(model, offset);
                break;
            case 3:
                await node.ZeroAsync(offset, count, (ZeroFlags)random.Next(4));
                model.AsSpan(offset, count).Clear();
                break;
            case 4:
                await node.DiscardAsync(offset, count);
                byte[] after = await ReadAsync(node, offset, count);
                for (int i = 0; i < count; i++)
                {
                    Assert.True(after[i] == 0 || after[i] == model[offset + i], "a discard made up data");
                }

                after.CopyTo(model, offset);
                break;
            case 5:
                int length = Math.Max(1, model.Length + random.Next(-5000, 5000));
                Assert.True(await node.TryResizeAsync(length));
                Array.Resize(ref model, length);
                Assert.Equal(length, node.Length);
                break;
            case 6:
                BlockExtent extent = await node.MapAsync(offset, count);
                Assert.False(extent.IsZero && model.AsSpan(offset, (int)extent.Length).ContainsAnyExcept((byte)0));
                break;
            default:
                Assert.Equal(model.AsSpan(offset, count).ToArray(), await ReadAsync(node, offset, count));
                break;
        }

        return model;
    }
}
