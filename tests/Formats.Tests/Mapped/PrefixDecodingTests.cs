using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;
using Xunit;

namespace ImageMount.Formats.Tests.Mapped;

/// <summary>Units of which only the start is decoded for who wants no more, and all of it for who does.</summary>
public sealed class PrefixDecodingTests
{
    private const int UnitSize = 64 << 10;
    private const int Units = 40;
    private readonly byte[] _plain = CodecTests.Sample(Units * UnitSize, 90);
    private readonly PackedDisk _disk;

    public PrefixDecodingTests() => _disk = new PackedDisk(_plain);

    [Fact]
    public async Task Small_read_decodes_no_further_than_it_needs()
    {
        var cache = new DecodedUnitCache(8 << 20);
        await AssertReadAsync(cache, 3, 4096, 4096);
        Assert.Equal([8192], _disk.Decoder.Lengths);

        // What is there is used.
        await AssertReadAsync(cache, 3, 0, 8192);
        await AssertReadAsync(cache, 3, 5000, 1);
        Assert.Equal([8192], _disk.Decoder.Lengths);

        // One byte more: all of it, once.
        await AssertReadAsync(cache, 3, 8192, 1);
        await AssertReadAsync(cache, 3, UnitSize - 1, 1);
        await AssertReadAsync(cache, 3, 0, UnitSize);
        Assert.Equal([8192, UnitSize], _disk.Decoder.Lengths);
        Assert.Equal(UnitSize, cache.Bytes);
    }

    [Fact]
    public async Task Read_near_the_end_decodes_all()
    {
        var cache = new DecodedUnitCache(8 << 20);
        await AssertReadAsync(cache, 7, UnitSize * 3 / 4, 1);
        Assert.Equal([UnitSize], _disk.Decoder.Lengths);
    }

    [Fact]
    public async Task Readers_of_one_unit_at_a_time_get_their_bytes_however_far_it_is_decoded()
    {
        const int Seed = 91;
        for (int round = 0; round < 200; round++)
        {
            var cache = new DecodedUnitCache(8 << 20);
            var random = new Random(Seed + round);
            int unit = random.Next(Units);
            (int At, int Count)[] reads =
                [.. Enumerable.Range(0, 6).Select(_ => (random.Next(UnitSize - 4096), random.Next(1, 4096)))];
            await Task.WhenAll(reads.Select(read => Task.Run(() => AssertReadAsync(cache, unit, read.At, read.Count))));
            Assert.True(cache.Bytes == UnitSize, $"seed {Seed}, round {round}: {cache.Bytes} bytes are held");
        }
    }

    [Fact]
    public async Task Random_readers_with_a_small_cache_read_what_they_asked_for()
    {
        const int Seed = 92;
        var cache = new DecodedUnitCache(9 * UnitSize);
        var device = new PackedDevice(cache, _disk);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(worker => Task.Run(async () =>
        {
            var random = new Random(Seed + worker);
            var buffer = new byte[3 * UnitSize];
            long at = 0;
            for (int i = 0; i < 400; i++)
            {
                int count = random.Next(1, random.Next(4) == 0 ? buffer.Length : 5000);
                at = random.Next(3) == 0 && at + count < device.Length ? at : random.NextInt64(device.Length - count);
                await device.ReadAsync(at, buffer.AsMemory(0, count), default);
                Assert.True(
                    _plain.AsSpan((int)at, count).SequenceEqual(buffer.AsSpan(0, count)),
                    $"seed {Seed}, worker {worker}, round {i}: {count} bytes at {at}");
                at += count;
            }
        })));
        await device.CloseAsync();
        Assert.Equal(0, cache.Bytes);
    }

    [Fact]
    public async Task Damage_is_told_to_whoever_reads_as_far()
    {
        var cache = new DecodedUnitCache(8 << 20);
        CompressedUnit unit = _disk.Unit(5);
        CompressedUnit cut = unit with { StoredLength = unit.StoredLength / 2 };
        var buffer = new byte[512];
        await cache.ReadAsync(this, cut, 0, buffer, default);
        Assert.Equal(_plain[(5 * UnitSize)..(5 * UnitSize + 512)], buffer);
        for (int again = 0; again < 2; again++)
        {
            var e = await Assert.ThrowsAsync<BlockException>(
                async () => await cache.ReadAsync(this, cut, UnitSize - 512, buffer, default));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }

        // What can be read before it can still be read after it.
        await cache.ReadAsync(this, cut, 0, buffer, default);
        Assert.Equal(_plain[(5 * UnitSize)..(5 * UnitSize + 512)], buffer);
    }

    private async Task AssertReadAsync(DecodedUnitCache cache, int unit, int at, int count)
    {
        var buffer = new byte[count];
        await cache.ReadAsync(this, _disk.Unit(unit), at, buffer, default);
        Assert.True(
            _plain.AsSpan((unit * UnitSize) + at, count).SequenceEqual(buffer), $"{count} bytes at {at} of unit {unit}");
    }

    /// <summary>Content in deflate units, one after the other.</summary>
    private sealed class PackedDisk
    {
        private readonly List<(long Offset, int Length)> _places = [];
        private readonly BlockNode _node;

        public PackedDisk(byte[] plain)
        {
            var stored = new MemoryStream();
            for (int at = 0; at < plain.Length; at += UnitSize)
            {
                byte[] unit = CodecTests.Compress("deflate", plain[at..(at + UnitSize)]);
                _places.Add((stored.Position, unit.Length));
                stored.Write(unit);
            }

            _node = new BlockNode("packed", "test", new TestSupport.MemoryDevice(stored.ToArray()));
        }

        public CountingDecoder Decoder { get; } = new();

        public CompressedUnit Unit(int index) =>
            new(_node, _places[index].Offset, _places[index].Length, (long)index * UnitSize, UnitSize, Decoder);
    }

    private sealed class CountingDecoder : IPrefixDecoder
    {
        private readonly List<int> _lengths = [];

        public int[] Lengths
        {
            get
            {
                lock (_lengths)
                {
                    return [.. _lengths];
                }
            }
        }

        public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded)
        {
            Note(decoded.Length);
            DeflateDecoder.Instance.Decode(stored, decoded);
        }

        public void DecodePrefix(ReadOnlySpan<byte> stored, Span<byte> decoded)
        {
            Note(decoded.Length);
            DeflateDecoder.Instance.DecodePrefix(stored, decoded);
        }

        private void Note(int length)
        {
            lock (_lengths)
            {
                _lengths.Add(length);
            }
        }
    }

    private sealed class PackedDevice(DecodedUnitCache cache, PackedDisk disk) : MappedDevice(cache), IExtentMap
    {
        protected override IExtentMap Map => this;

        long IExtentMap.Length => (long)Units * UnitSize;

        public BlockNode? Backing => null;

        public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
        {
            int index = (int)(guestOffset / UnitSize);
            return new(MappedRun.Compressed(
                Math.Min(count, (index + 1L) * UnitSize - guestOffset), disk.Unit(index)));
        }
    }
}
