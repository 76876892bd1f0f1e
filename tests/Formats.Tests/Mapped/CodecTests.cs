using System.IO.Compression;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;
using Xunit;

namespace ImageMount.Formats.Tests.Mapped;

public sealed class CodecTests
{
    public static readonly TheoryData<string> Deflates = ["deflate", "zlib"];

    internal static byte[] Sample(int length, int seed)
    {
        var bytes = new byte[length];
        var random = new Random(seed);
        for (int i = 0; i < length; i++)
        {
            bytes[i] = (byte)(random.Next(4) == 0 ? random.Next(256) : i >> 4);
        }

        return bytes;
    }

    internal static byte[] Compress(string kind, byte[] plain)
    {
        using var stored = new MemoryStream();
        using (Stream stream = kind == "zlib"
            ? new ZLibStream(stored, CompressionLevel.Optimal, leaveOpen: true)
            : new DeflateStream(stored, CompressionLevel.Optimal, leaveOpen: true))
        {
            stream.Write(plain);
        }

        return stored.ToArray();
    }

    private static IUnitDecoder Decoder(string kind) =>
        kind == "zlib" ? ZlibDecoder.Instance : DeflateDecoder.Instance;

    [Theory]
    [MemberData(nameof(Deflates))]
    public void Decode_slack_after_the_stream_is_ignored(string kind)
    {
        byte[] plain = Sample(65536, 1);
        byte[] stored = [.. Compress(kind, plain), .. Sample(511, 2)];
        var decoded = new byte[plain.Length];
        Decoder(kind).Decode(stored, decoded);
        Assert.Equal(plain, decoded);
    }

    [Theory]
    [MemberData(nameof(Deflates))]
    public void Decode_short_input_is_invalid_data_at_every_length(string kind)
    {
        byte[] plain = Sample(3000, 3);
        byte[] stored = Compress(kind, plain);
        var decoded = new byte[plain.Length];
        for (int length = 0; length < stored.Length; length++)
        {
            var e = Assert.Throws<BlockException>(() => Decoder(kind).Decode(stored.AsSpan(0, length), decoded));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }
    }

    [Theory]
    [MemberData(nameof(Deflates))]
    public void Decode_of_another_length_is_invalid_data(string kind)
    {
        byte[] stored = Compress(kind, Sample(4096, 4));
        foreach (int length in new[] { 4095, 4097, 1 })
        {
            var e = Assert.Throws<BlockException>(() => Decoder(kind).Decode(stored, new byte[length]));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }
    }

    [Theory]
    [MemberData(nameof(Deflates))]
    public void Decode_damaged_input_gives_a_block_exception_or_bytes(string kind)
    {
        byte[] plain = Sample(4096, 5);
        byte[] good = Compress(kind, plain);
        var random = new Random(6);
        int refused = 0;
        for (int round = 0; round < 2000; round++)
        {
            byte[] bad = [.. good];
            bad[random.Next(bad.Length)] ^= (byte)(1 << random.Next(8));
            try
            {
                Decoder(kind).Decode(bad, new byte[plain.Length]);
            }
            catch (BlockException e)
            {
                Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
                refused++;
            }
        }

        // A bare deflate stream has no checksum; the container's catches (nearly) everything.
        Assert.InRange(refused, kind == "zlib" ? 1990 : 200, 2000);
    }

    /// <summary>
    /// What libdeflate accepts, the streaming decoder accepts too, with the same bytes: a unit does not read differently
    /// on a machine that has the library.
    /// </summary>
    [Theory]
    [MemberData(nameof(Deflates))]
    public void Decode_damaged_input_gives_what_the_streaming_decoder_gives(string kind)
    {
        const int Seed = 60;
        byte[] plain = Sample(4096, 5);
        byte[] good = [.. Compress(kind, plain), .. Sample(64, Seed)];
        var random = new Random(Seed);
        int accepted = 0;
        for (int round = 0; round < 3000; round++)
        {
            byte[] bad = [.. good];
            int changes = random.Next(3);
            for (int i = 0; i < changes; i++)
            {
                bad[random.Next(bad.Length)] ^= (byte)(1 << random.Next(8));
            }

            byte[] expected = new byte[plain.Length];
            byte[] found = new byte[plain.Length];
            bool isGood = TryDecode(() => InflateDecoder.DecodeStream(bad, expected, Open(kind), mayBeLonger: false));
            Assert.True(isGood == TryDecode(() => Decoder(kind).Decode(bad, found)), $"seed {Seed}, round {round}");
            if (isGood)
            {
                Assert.True(expected.AsSpan().SequenceEqual(found), $"seed {Seed}, round {round}");
                accepted++;
            }
        }

        Assert.InRange(accepted, 500, 2900);
    }

    [Theory]
    [MemberData(nameof(Deflates))]
    public void Streaming_decoder_reads_what_was_stored(string kind)
    {
        byte[] plain = Sample(65536, 61);
        byte[] decoded = new byte[plain.Length];
        InflateDecoder.DecodeStream(
            [.. Compress(kind, plain), .. Sample(511, 2)], decoded, Open(kind), mayBeLonger: false);
        Assert.Equal(plain, decoded);
        var e = Assert.Throws<BlockException>(() => InflateDecoder.DecodeStream(
            Compress(kind, plain), new byte[plain.Length - 1], Open(kind), mayBeLonger: false));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
    }

    private static Func<Stream, Stream> Open(string kind) => kind == "zlib"
        ? input => new ZLibStream(input, CompressionMode.Decompress, leaveOpen: true)
        : input => new DeflateStream(input, CompressionMode.Decompress, leaveOpen: true);

    private static bool TryDecode(Action decode)
    {
        try
        {
            decode();
            return true;
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.InvalidData)
        {
            return false;
        }
    }

    [Fact]
    public void Zlib_prefix_gives_the_start_of_a_longer_unit()
    {
        byte[] plain = Sample(65536, 7);
        var decoded = new byte[5000];
        ZlibDecoder.Prefix.Decode(Compress("zlib", plain), decoded);
        Assert.Equal(plain[..5000], decoded);
    }

    [Fact]
    public void Zstd_frames_with_and_without_content_size_and_slack_are_decoded()
    {
        ZstdDecoder.RequireLibrary();
        byte[] plain = Sample(100_000, 8);
        foreach (bool sized in new[] { true, false })
        {
            byte[] stored = [.. ZstdFrames.Raw(plain, sized), .. Sample(700, 9)];
            var decoded = new byte[plain.Length];
            ZstdDecoder.Instance.Decode(stored, decoded);
            Assert.Equal(plain, decoded);
        }
    }

    [Fact]
    public void Zstd_unit_in_two_frames_is_decoded()
    {
        byte[] plain = Sample(100_000, 10);
        byte[] stored = [.. ZstdFrames.Raw(plain[..40_000], true), .. ZstdFrames.Raw(plain[40_000..], false)];
        var decoded = new byte[plain.Length];
        ZstdDecoder.Instance.Decode(stored, decoded);
        Assert.Equal(plain, decoded);
    }

    [Fact]
    public void Zstd_short_damaged_or_longer_input_is_invalid_data()
    {
        byte[] plain = Sample(3000, 11);
        byte[] stored = ZstdFrames.Raw(plain, false);
        for (int length = 0; length < stored.Length; length++)
        {
            Refused(stored.AsSpan(0, length).ToArray(), plain.Length);
        }

        Refused(stored, plain.Length - 1);
        Refused(stored, plain.Length + 1);
        stored[0] ^= 1;
        Refused(stored, plain.Length);
    }

    [Fact]
    public void Zstd_frame_that_claims_a_huge_window_costs_no_memory()
    {
        byte[] plain = Sample(3000, 12);
        byte[] stored = ZstdFrames.Raw(plain, false);
        stored[5] = 0xFF; // Window_Descriptor: 3.75 TiB, more than any decoder would allocate.
        long before = Environment.WorkingSet;
        try
        {
            ZstdDecoder.Instance.Decode(stored, new byte[plain.Length]);
        }
        catch (BlockException e)
        {
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }

        Assert.InRange(Environment.WorkingSet - before, long.MinValue, 64 << 20);
    }

    private static void Refused(byte[] stored, int length)
    {
        var e = Assert.Throws<BlockException>(() => ZstdDecoder.Instance.Decode(stored, new byte[length]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
    }
}
