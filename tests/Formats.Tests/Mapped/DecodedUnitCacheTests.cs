using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;
using ImageMount.TestSupport;
using Xunit;

namespace ImageMount.Formats.Tests.Mapped;

public sealed class DecodedUnitCacheTests
{
    private const int UnitSize = 64 << 10;
    private readonly GatedStore _store = new(256);
    private readonly BlockNode _node;

    public DecodedUnitCacheTests() => _node = new BlockNode("store", "test", _store);

    private CompressedUnit Unit(int index, IUnitDecoder? decoder = null) =>
        new(_node, index * 16L, 16, (long)index * UnitSize, UnitSize, decoder ?? FillDecoder.Instance);

    private static byte Expected(int index) => (byte)(index * 7 + 1);

    [Fact]
    public async Task Read_again_decodes_once_and_completes_synchronously_without_allocating()
    {
        var cache = new DecodedUnitCache(1 << 20);
        var buffer = new byte[4096];
        await cache.ReadAsync(this, Unit(3), 100, buffer, default);
        Assert.Equal(0, Allocations.Least(20, () =>
        {
            for (int i = 0; i < 1000; i++)
            {
                Assert.True(cache.ReadAsync(this, Unit(3), i, buffer, default).IsCompletedSuccessfully);
            }
        }));
        Assert.Equal(1, cache.Decodes);
        Assert.All(buffer, b => Assert.Equal(Expected(3), b));
    }

    [Fact]
    public async Task Readers_of_one_unit_at_a_time_decode_it_once()
    {
        var cache = new DecodedUnitCache(1 << 20);
        _store.Close();
        var buffers = new byte[20][];
        var reads = new Task[20];
        for (int i = 0; i < reads.Length; i++)
        {
            buffers[i] = new byte[1000];
            reads[i] = cache.ReadAsync(this, Unit(5), i * 10, buffers[i], default).AsTask();
            Assert.False(reads[i].IsCompleted);
        }

        _store.Open();
        await Task.WhenAll(reads);
        Assert.Equal(1, cache.Decodes);
        Assert.All(buffers, buffer => Assert.All(buffer, b => Assert.Equal(Expected(5), b)));
    }

    [Fact]
    public async Task Reader_that_was_cancelled_does_not_fail_the_others()
    {
        var cache = new DecodedUnitCache(1 << 20);
        _store.Close();
        using var cancel = new CancellationTokenSource();
        Task first = cache.ReadAsync(this, Unit(6), 0, new byte[10], cancel.Token).AsTask();
        var buffer = new byte[10];
        Task second = cache.ReadAsync(this, Unit(6), 5, buffer, default).AsTask();
        cancel.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        _store.Open();
        await second;
        Assert.All(buffer, b => Assert.Equal(Expected(6), b));
    }

    [Fact]
    public async Task Damaged_unit_fails_every_reader_with_an_error_of_its_own_and_is_not_kept()
    {
        var cache = new DecodedUnitCache(1 << 20);
        _store.Close();
        Task[] reads = Enumerable.Range(0, 8)
            .Select(_ => cache.ReadAsync(this, Unit(7, new BrokenDecoder()), 0, new byte[10], default).AsTask())
            .ToArray();
        _store.Open();
        var seen = new HashSet<BlockException>(ReferenceEqualityComparer.Instance);
        foreach (Task read in reads)
        {
            var e = await Assert.ThrowsAsync<BlockException>(() => read);
            Assert.Equal(("store", 7 * 16L), (e.Node, e.Offset));
            Assert.True(seen.Add(e));
        }

        Assert.Equal(0, cache.Bytes);
        await cache.ReadAsync(this, Unit(7), 0, new byte[10], default);
    }

    [Fact]
    public async Task Cache_stays_within_its_bound_and_keeps_what_is_read_again()
    {
        var cache = new DecodedUnitCache(8 * UnitSize);
        var buffer = new byte[10];
        for (int i = 0; i < 200; i++)
        {
            await cache.ReadAsync(this, Unit(i), 0, buffer, default);
            await cache.ReadAsync(this, Unit(0), 0, buffer, default);
            Assert.InRange(cache.Bytes, 0, cache.MaxBytes);
            Assert.Equal(Expected(0), buffer[0]);
        }

        Assert.Equal(200, cache.Decodes);
    }

    [Fact]
    public async Task Unit_larger_than_a_quarter_of_the_cache_is_read_but_not_kept()
    {
        var cache = new DecodedUnitCache(2 * UnitSize);
        var buffer = new byte[10];
        await cache.ReadAsync(this, Unit(9), 70, buffer, default);
        Assert.All(buffer, b => Assert.Equal(Expected(9), b));
        Assert.Equal(0, cache.Bytes);
    }

    [Fact]
    public async Task Whole_unit_goes_straight_to_the_reader()
    {
        var cache = new DecodedUnitCache(1 << 20);
        var buffer = new byte[UnitSize];
        await cache.ReadAsync(this, Unit(10), 0, buffer, default);
        Assert.All(buffer, b => Assert.Equal(Expected(10), b));
        Assert.Equal(0, cache.Bytes);
    }

    [Fact]
    public async Task Forgotten_unit_is_decoded_anew()
    {
        var cache = new DecodedUnitCache(1 << 20);
        var buffer = new byte[10];
        await cache.ReadAsync(this, Unit(11), 0, buffer, default);
        _store.Bytes[11 * 16] = 99;
        await cache.ReadAsync(this, Unit(11), 0, buffer, default);
        Assert.Equal(Expected(11), buffer[0]);
        cache.Forget(_node, 11 * 16, 11L * UnitSize, UnitSize);
        await cache.ReadAsync(this, Unit(11), 0, buffer, default);
        Assert.Equal(99, buffer[0]);
    }

    [Fact]
    public async Task Unit_forgotten_while_it_is_decoded_serves_its_readers_only()
    {
        var cache = new DecodedUnitCache(1 << 20);
        var buffer = new byte[10];
        _store.Close();
        Task read = cache.ReadAsync(this, Unit(12), 0, buffer, default).AsTask();
        cache.Forget(_node, 12 * 16, 12L * UnitSize, UnitSize);
        _store.Open();
        await read;
        Assert.Equal(Expected(12), buffer[0]);
        Assert.Equal(0, cache.Bytes);
    }

    [Fact]
    public async Task Closing_a_device_gives_its_memory_back_and_leaves_the_others()
    {
        var cache = new DecodedUnitCache(8 << 20);
        var other = new object();
        await cache.ReadAsync(other, Unit(20), 0, new byte[10], default);
        var device = new UnitDevice(cache, _node, 64);
        await device.ReadAsync(0, new byte[100], default);
        Assert.Equal(2 * UnitSize, cache.Bytes);
        await device.CloseAsync();
        Assert.Equal(UnitSize, cache.Bytes);
    }

    [Fact]
    public async Task Long_read_is_decoded_by_several_threads_and_correct()
    {
        var cache = new DecodedUnitCache(8 << 20);
        var device = new UnitDevice(cache, _node, 64);
        var buffer = new byte[16 * UnitSize];
        await device.ReadAsync(100, buffer, default);
        for (int i = 0; i < buffer.Length; i++)
        {
            if (buffer[i] != Expected((100 + i) / UnitSize))
            {
                Assert.Fail($"byte {i}");
            }
        }

        await device.CloseAsync();
        Assert.InRange(cache.Decodes, 17, 33); // A unit may be begun by the reader and the pool at the same moment.
    }

    [Fact]
    public async Task Sequential_reads_find_the_following_units_decoded()
    {
        var cache = new DecodedUnitCache(8 << 20);
        var device = new UnitDevice(cache, _node, 200);
        var buffer = new byte[4096];
        for (long at = 0; at < 8 * UnitSize; at += buffer.Length)
        {
            await device.ReadAsync(at, buffer, default);
            Assert.Equal(Expected((int)(at / UnitSize)), buffer[0]);
        }

        await device.QuiesceAsync();
        await device.QuiesceAsync();
        long decoded = cache.Decodes;
        Assert.InRange(decoded, 9, 100);
        Assert.True(cache.TryRead(Unit(8), 0, buffer), "the unit after the last one read");
        await device.CloseAsync();
        Assert.Equal(0, cache.Bytes);
    }

    [Fact]
    public async Task Reading_ahead_comes_to_rest_at_the_end_of_the_disk()
    {
        var cache = new DecodedUnitCache(8 << 20);
        var device = new UnitDevice(cache, _node, 6);
        for (long at = 0; at < 6 * UnitSize; at += 4096)
        {
            await device.ReadAsync(at, new byte[4096], default);
        }

        await device.QuiesceAsync().AsTask().WaitAsync(TimeSpan.FromMinutes(1)); // a watchdog
        Assert.Equal(6, cache.Decodes);
        await device.CloseAsync();
    }

    [Fact]
    public async Task Reading_ahead_without_room_comes_to_rest()
    {
        // Room for one unit ahead, while the store answers nobody.
        var cache = new DecodedUnitCache(4 * UnitSize);
        var device = new UnitDevice(cache, _node, 200);
        await device.ReadAsync(0, new byte[4096], default);
        _store.Close();
        Task read = device.ReadAsync(4096, new byte[3 * UnitSize], default).AsTask();
        _store.Open();
        await read;
        await device.QuiesceAsync().AsTask().WaitAsync(TimeSpan.FromMinutes(1)); // a watchdog
        await device.CloseAsync();
    }

    [Fact]
    public async Task Random_reads_decode_nothing_ahead()
    {
        var cache = new DecodedUnitCache(8 << 20);
        var device = new UnitDevice(cache, _node, 200);
        foreach (int index in new[] { 100, 20, 180, 60, 140, 0 })
        {
            await device.ReadAsync(((long)index * UnitSize) + 4096, new byte[4096], default);
        }

        await device.CloseAsync();
        Assert.Equal(6, cache.Decodes);
    }

    [Fact]
    public async Task Random_reads_near_each_other_decode_nothing_ahead()
    {
        var cache = new DecodedUnitCache(16 << 20);
        var device = new UnitDevice(cache, _node, 200);
        foreach (int index in new[] { 100, 104, 98, 109, 94, 113, 102, 90, 107, 117, 96, 111 })
        {
            await device.ReadAsync(((long)index * UnitSize) + 4096, new byte[4096], default);
        }

        // The same place again is no progress either.
        await device.ReadAsync((117L * UnitSize) + 4096, new byte[4096], default);
        await device.ReadAsync((117L * UnitSize) + 4096, new byte[4096], default);
        await device.CloseAsync();
        Assert.Equal(12, cache.Decodes);
    }

    [Fact]
    public async Task Reader_in_order_is_followed_beside_random_readers()
    {
        const int Seed = 77;
        var cache = new DecodedUnitCache(16 << 20);
        var device = new UnitDevice(cache, _node, 250);
        var random = new Random(Seed);
        var buffer = new byte[UnitSize / 2];
        for (long at = 0; at < 16 * UnitSize; at += buffer.Length)
        {
            await device.ReadAsync(at, buffer, default);
            for (int i = 0; i < 12; i++)
            {
                await device.ReadAsync(random.NextInt64(60 * UnitSize, 250 * UnitSize - 512), buffer.AsMemory(0, 512), default);
            }
        }

        await device.QuiesceAsync();
        await device.QuiesceAsync();
        Assert.True(cache.TryRead(Unit(17), 0, buffer), $"seed {Seed}: the unit after the next");
        await device.CloseAsync();
    }

    [Theory]
    [InlineData(1, 0, 2, 3)]
    [InlineData(3, 1, 0, 2)]
    [InlineData(2, 3, 0, 1)]
    public async Task Reads_in_some_disorder_are_followed(params int[] order)
    {
        // As the kernel's read-ahead comes in from several threads.
        var cache = new DecodedUnitCache(16 << 20);
        var device = new UnitDevice(cache, _node, 200);
        var buffer = new byte[2 * UnitSize];
        for (int group = 0; group < 4; group++)
        {
            foreach (int part in order)
            {
                await device.ReadAsync(((group * 4) + part) * 2L * UnitSize, buffer, default);
            }
        }

        await device.QuiesceAsync();
        await device.QuiesceAsync();
        Assert.True(cache.TryRead(Unit(33), 0, buffer.AsSpan(0, 512)), "the unit after the next");
        await device.CloseAsync();
    }

    [Fact]
    public async Task Many_threads_with_a_small_cache_read_what_they_asked_for()
    {
        const int Seed = 4711;
        var cache = new DecodedUnitCache(12 * UnitSize);
        var device = new UnitDevice(cache, _node, 200);
        await Task.WhenAll(Enumerable.Range(0, 6).Select(worker => Task.Run(async () =>
        {
            var random = new Random(Seed + worker);
            var buffer = new byte[3 * UnitSize];
            long at = 0;
            for (int i = 0; i < 300; i++)
            {
                int count = random.Next(1, random.Next(3) == 0 ? buffer.Length : 5000);
                at = random.Next(2) == 0 && at + count < device.Length ? at : random.NextInt64(device.Length - count);
                await device.ReadAsync(at, buffer.AsMemory(0, count), default);
                for (int b = 0; b < count; b++)
                {
                    if (buffer[b] != Expected((int)((at + b) / UnitSize)))
                    {
                        Assert.Fail($"seed {Seed}, worker {worker}, round {i}, guest offset {at + b}");
                    }
                }

                at += count;
            }
        })));
        await device.CloseAsync();
        Assert.Equal(0, cache.Bytes);
    }

    [Fact]
    public async Task Close_while_reading_ahead_waits_for_it()
    {
        for (int round = 0; round < 50; round++)
        {
            var cache = new DecodedUnitCache(8 << 20);
            var device = new UnitDevice(cache, _node, 200);
            await device.ReadAsync(0, new byte[UnitSize * 3], default);
            await device.ReadAsync(UnitSize * 3, new byte[UnitSize * 3], default);
            await device.CloseAsync();
            long decodes = cache.Decodes;
            Assert.Equal(0, cache.Bytes);
            await Task.Yield();
            Assert.Equal(decodes, cache.Decodes);
        }
    }

    /// <summary>A unit is one byte, repeated.</summary>
    private sealed class FillDecoder : IUnitDecoder
    {
        public static FillDecoder Instance { get; } = new();

        public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded) => decoded.Fill(stored[0]);
    }

    private sealed class BrokenDecoder : IUnitDecoder
    {
        public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded) =>
            throw BlockException.Invalid("broken on purpose");
    }

    private sealed class UnitDevice(DecodedUnitCache cache, BlockNode node, int units) : MappedDevice(cache), IExtentMap
    {
        protected override IExtentMap Map => this;

        long IExtentMap.Length => (long)units * UnitSize;

        public BlockNode? Backing => null;

        public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
        {
            int index = (int)(guestOffset / UnitSize);
            var unit = new CompressedUnit(
                node, index * 16L, 16, (long)index * UnitSize, UnitSize, FillDecoder.Instance);
            return new(MappedRun.Compressed(Math.Min(count, (index + 1L) * UnitSize - guestOffset), unit));
        }
    }

    /// <summary>Memory whose reads can be held up.</summary>
    private sealed class GatedStore : BlockDevice
    {
        private volatile TaskCompletionSource? _gate;

        public GatedStore(int units)
        {
            Bytes = new byte[units * 16];
            for (int i = 0; i < units; i++)
            {
                Bytes[i * 16] = Expected(i);
            }
        }

        public byte[] Bytes { get; }

        public override long Length => Bytes.Length;

        public void Close() => _gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Open()
        {
            TaskCompletionSource? gate = _gate;
            _gate = null;
            gate?.SetResult();
        }

        public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            if (_gate is { } gate)
            {
                await gate.Task.WaitAsync(cancellationToken);
            }

            Bytes.AsMemory((int)offset, buffer.Length).CopyTo(buffer);
        }
    }
}
