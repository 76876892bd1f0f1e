using ImageMount.TestSupport.Crash;

namespace ImageMount.Core.Tests.Support;

public sealed class CrashDeviceTests
{
    private readonly CrashDevice _device = new(TestPattern.Make(4096, 0, 1));
    private readonly BlockNode _node;

    public CrashDeviceTests() => _node = new BlockNode("crash", "test", _device);

    [Fact]
    public async Task What_was_not_flushed_may_be_lost_or_kept()
    {
        byte[] initial = _device.ToArray();
        await _node.WriteAsync(512, new byte[1024]);
        byte[] written = _device.ToArray();
        Assert.Equal(initial, _device.Recover(1, CrashPolicy.DropAll).ToArray());
        Assert.Equal(written, _device.Recover(1, CrashPolicy.KeepAll).ToArray());
        Assert.Equal(initial, _device.Recover(0, CrashPolicy.KeepAll).ToArray());
        await _node.FlushAsync();
        Assert.Equal(written, _device.Recover(2, CrashPolicy.DropAll).ToArray());
        Assert.Equal(2, _device.OperationCount);
    }

    [Fact]
    public async Task Mixtures_lose_single_sectors_and_follow_their_seed()
    {
        for (int i = 0; i < 8; i++)
        {
            await _node.WriteAsync(i * 512, new byte[512]);
        }

        byte[][] mixtures = [.. Enumerable.Range(0, 20).Select(seed => Mixture(8, seed))];
        Assert.Contains(mixtures, left => !left.SequenceEqual(mixtures[0]));
        Assert.Equal(mixtures[3], Mixture(8, 3));
        byte[] initial = TestPattern.Make(4096, 0, 1);
        Assert.All(mixtures, left =>
        {
            for (int at = 0; at < 4096; at += 512)
            {
                bool isOld = left.AsSpan(at, 512).SequenceEqual(initial.AsSpan(at, 512));
                Assert.True(isOld || !left.AsSpan(at, 512).ContainsAnyExcept((byte)0), "a torn sector");
            }
        });
    }

    [Fact]
    public async Task Earlier_version_of_an_unflushed_sector_may_be_what_is_left()
    {
        byte[] first = TestPattern.Make(512, 0, 10);
        await _node.WriteAsync(0, first);
        await _node.WriteAsync(0, TestPattern.Make(512, 0, 11));
        Assert.Contains(Enumerable.Range(0, 50), seed => Mixture(2, seed)[..512].SequenceEqual(first));
    }

    [Fact]
    public async Task Growth_may_be_lost_with_what_is_in_it()
    {
        Assert.True(await _node.TryResizeAsync(6000));
        await _node.WriteAsync(4096, TestPattern.Make(1904, 0, 2));
        Assert.Equal(4096, _device.Recover(2, CrashPolicy.DropAll).Length);
        Assert.Equal(6000, _device.Recover(2, CrashPolicy.KeepAll).Length);
        await _node.FlushAsync();
        Assert.Equal(6000, _device.Recover(3, CrashPolicy.DropAll).Length);
    }

    [Fact]
    public async Task Space_that_was_cut_off_reads_as_zeroes_when_it_comes_back()
    {
        Assert.True(await _node.TryResizeAsync(1000));
        Assert.True(await _node.TryResizeAsync(4096));
        Assert.False(_device.ToArray().AsSpan(1000).ContainsAnyExcept((byte)0));
        for (int seed = 0; seed < 10; seed++)
        {
            CrashDevice left = _device.Recover(1, CrashPolicy.Seeded, seed);
            long length = left.Length;
            await left.TryResizeAsync(8192, default);
            Assert.False(left.ToArray().AsSpan((int)length).ContainsAnyExcept((byte)0));
        }
    }

    [Fact]
    public async Task Operations_can_fail_with_an_errno()
    {
        _device.Fail = (count, request) => request.Operation == TestOperation.Write && count == 1
            ? CrashDevice.NoSpace() : null;
        await _node.WriteAsync(0, new byte[512]);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await _node.WriteAsync(0, new byte[512]));
        Assert.Equal((BlockErrorKind.NoSpace, 28), (e.Kind, e.Errno));
    }

    [Fact]
    public async Task Saved_file_has_the_same_bytes()
    {
        using var dir = new TempDir();
        await _node.WriteAsync(700, new byte[2000]);
        _device.SaveTo(dir.File("x"));
        Assert.Equal(_device.ToArray(), File.ReadAllBytes(dir.File("x")));
    }

    [Fact]
    public async Task Flush_of_a_file_makes_nothing_durable_in_another()
    {
        var files = new CrashFiles([("a", new byte[512]), ("b", new byte[512])]);
        BlockNode[] nodes = [.. files.Devices.Select(device => new BlockNode(device.Name, "test", device))];
        byte[] written = TestPattern.Make(512, 0, 3);
        await nodes[0].WriteAsync(0, written);
        await nodes[1].WriteAsync(0, written);
        await nodes[1].FlushAsync();
        Assert.Equal(3, files.OperationCount);
        Assert.Equal(["a: write 0x0+0x200", "b: write 0x0+0x200", "b: flush"], files.Log.Select(change => $"{change}"));
        Assert.Equal([new byte[512], written], Left(3, CrashPolicy.DropAll));
        Assert.Equal([new byte[512], new byte[512]], Left(2, CrashPolicy.DropAll));
        Assert.Equal([written, new byte[512]], Left(1, CrashPolicy.KeepAll));
        await nodes[0].FlushAsync();
        Assert.Equal([written, written], Left(4, CrashPolicy.DropAll));

        byte[][] Left(int cut, CrashPolicy policy) =>
            [.. files.Devices.Select(device => device.Recover(cut, policy).ToArray())];
    }

    private byte[] Mixture(int cut, int seed) => _device.Recover(cut, CrashPolicy.Seeded, seed).ToArray();
}
