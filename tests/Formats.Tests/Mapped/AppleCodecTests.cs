using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Formats.Tests.Mapped;

/// <summary>
/// ADC, LZFSE in all its kinds of blocks, bzip2 and xz: what encoders make, and what is left of it after damage.
/// </summary>
public sealed class AppleCodecTests
{
    private const int Seed = 4711;

    /// <summary>Names of codecs, with how to encode.</summary>
    private static readonly Dictionary<string, (IUnitDecoder Decoder, Func<byte[], byte[]> Encode)> Codecs = new()
    {
        ["adc"] = (AdcDecoder.Instance, plain => AdcEncoder.Encode(plain)),
        ["lzfse-plain"] = (LzfseDecoder.Instance, plain => LzfseEncoder.Encode(plain, '-')),
        ["lzfse-lzvn"] = (LzfseDecoder.Instance, plain => LzfseEncoder.Encode(plain, 'n')),
        ["lzfse-v1"] = (LzfseDecoder.Instance, plain => LzfseEncoder.Encode(plain, '1')),
        ["lzfse-v2"] = (LzfseDecoder.Instance, plain => LzfseEncoder.Encode(plain, '2')),
        ["bzip2"] = (Bzip2Decoder.Instance, plain => UnitEncoders.Bzip2(plain)),
        ["xz"] = (XzDecoder.Instance, plain => UnitEncoders.Xz(plain)),
    };

    public static TheoryData<string> Names => [.. Codecs.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Decode_gives_back_what_was_encoded(string name)
    {
        (IUnitDecoder decoder, Func<byte[], byte[]> encode) = Codecs[name];
        foreach ((string what, byte[] plain) in Samples())
        {
            byte[] stored = [.. encode(plain), .. CodecTests.Sample(100, 3)]; // Slack is ignored.
            var decoded = new byte[plain.Length];
            decoder.Decode(stored, decoded);
            TestPattern.AssertEqual(plain, decoded, 0, $"{name}, {what}");
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Decode_short_input_is_invalid_data_at_every_length(string name)
    {
        (IUnitDecoder decoder, Func<byte[], byte[]> encode) = Codecs[name];
        byte[] plain = Mixed(3000, Seed);
        byte[] stored = encode(plain);
        var decoded = new byte[plain.Length];
        for (int length = 0; length < stored.Length; length++)
        {
            var e = Assert.Throws<BlockException>(() => decoder.Decode(stored.AsSpan(0, length), decoded));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Decode_of_another_length_is_invalid_data(string name)
    {
        (IUnitDecoder decoder, Func<byte[], byte[]> encode) = Codecs[name];
        byte[] stored = encode(Mixed(4096, Seed));

        // ADC knows no end: a unit cut at a step's end looks whole. Between steps it is refused.
        foreach (int length in name == "adc" ? new[] { 4097, 5000 } : [4095, 4097, 1])
        {
            var e = Assert.Throws<BlockException>(() => decoder.Decode(stored, new byte[length]));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }
    }

    /// <summary>Single bits, bytes at their extremes, and cuts: bytes or InvalidData, never anything else.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Decode_damaged_input_gives_a_block_exception_or_bytes(string name)
    {
        (IUnitDecoder decoder, Func<byte[], byte[]> encode) = Codecs[name];
        byte[] plain = Mixed(2500, Seed);
        byte[] good = encode(plain);
        var random = new Random(Seed);
        int refused = 0;
        const int Rounds = 4000;
        var decoded = new byte[plain.Length];
        for (int round = 0; round < Rounds; round++)
        {
            byte[] bad = [.. good];
            for (int n = random.Next(1, 4); n > 0; n--)
            {
                // The headers are where the numbers are.
                int at = random.Next(3) == 0 ? random.Next(Math.Min(64, bad.Length)) : random.Next(bad.Length);
                bad[at] = random.Next(3) switch
                {
                    0 => (byte)(bad[at] ^ 1 << random.Next(8)),
                    1 => (byte)random.Next(256),
                    _ => (byte)(random.Next(2) * 255),
                };
            }

            try
            {
                decoder.Decode(bad.AsSpan(0, random.Next(8) == 0 ? random.Next(bad.Length + 1) : bad.Length), decoded);
            }
            catch (BlockException e)
            {
                Assert.True(e.Kind == BlockErrorKind.InvalidData, $"round {round}, seed {Seed}: {e.Describe()}");
                refused++;
            }
        }

        Assert.InRange(refused, 1, Rounds - 1);
    }

    [Fact]
    public void Lzfse_stream_with_every_kind_of_block_is_one_unit()
    {
        byte[] plain = Mixed(200_000, Seed);
        byte[] stored =
        [
            .. LzfseEncoder.Encode(plain.AsSpan(0, 70_000), '2')[..^4],
            .. LzfseEncoder.Encode(plain.AsSpan(70_000, 30_000), 'n')[..^4],
            .. LzfseEncoder.Encode(plain.AsSpan(100_000, 1), '-')[..^4],
            .. LzfseEncoder.Encode(plain.AsSpan(100_001), '1'),
        ];
        var decoded = new byte[plain.Length];
        LzfseDecoder.Instance.Decode(stored, decoded);
        TestPattern.AssertEqual(plain, decoded, 0, "mixed blocks");
    }

    [Fact]
    public void Lzfse_without_its_end_mark_is_refused()
    {
        byte[] plain = Mixed(5000, Seed);
        byte[] stored = LzfseEncoder.Encode(plain, '2')[..^4];
        Assert.Throws<BlockException>(() => LzfseDecoder.Instance.Decode(stored, new byte[plain.Length]));
    }

    /// <summary>The format's own example of overlap: one byte, repeated by a match at distance 1.</summary>
    [Theory]
    [InlineData(new byte[] { 0x80, 0x41, 0x3c, 0x00 }, 19)]
    [InlineData(new byte[] { 0x81, 0x41, 0x42, 0x7f, 0x00, 0x01 }, 69)]
    public void Adc_match_may_overlap_itself(byte[] stored, int length)
    {
        var decoded = new byte[length];
        AdcDecoder.Instance.Decode(stored, decoded);
        int period = (stored[0] & 0x7f) + 1;
        Assert.All(Enumerable.Range(0, length), i => Assert.Equal(stored[1 + i % period], decoded[i]));
    }

    [Fact]
    public void Crc_of_zeroes_is_that_of_the_bytes()
    {
        var random = new Random(Seed);
        for (int i = 0; i < 100; i++)
        {
            byte[] before = CodecTests.Sample(random.Next(20), i);
            byte[] after = CodecTests.Sample(random.Next(20), i + 1);
            int zeroes = random.Next(5000);
            var crc = new Crc32();
            crc.Append(before);
            crc.AppendZeroes(zeroes);
            crc.Append(after);
            Assert.Equal(Crc32.Compute([.. before, .. new byte[zeroes], .. after]), crc.Value);
        }

        Assert.Equal(0xCBF43926u, Crc32.Compute("123456789"u8));
    }

    private static IEnumerable<(string What, byte[] Plain)> Samples()
    {
        yield return ("one byte", [7]);
        yield return ("zeroes", new byte[100_000]);
        yield return ("noise", TestPattern.Make(70_001, 0, Seed));
        yield return ("steps", CodecTests.Sample(65_536, Seed));
        for (int i = 0; i < 6; i++)
        {
            yield return ($"mixed {i}, seed {Seed}", Mixed(1 + i * 60_000, Seed + i));
        }
    }

    /// <summary>Noise, zeroes, text-like bytes and repetitions at all distances, in pieces of all sizes.</summary>
    internal static byte[] Mixed(int length, int seed)
    {
        var random = new Random(seed);
        var bytes = new byte[length];
        for (int at = 0; at < length;)
        {
            int count = Math.Min(length - at, 1 << random.Next(13));
            Span<byte> piece = bytes.AsSpan(at, count);
            switch (random.Next(4))
            {
                case 0 when at > 0:
                    int distance = Math.Min(at, 1 << random.Next(19));
                    for (int i = 0; i < count; i++)
                    {
                        piece[i] = bytes[at + i - distance];
                    }

                    break;
                case 1:
                    random.NextBytes(piece);
                    break;
                case 2:
                    for (int i = 0; i < count; i++)
                    {
                        piece[i] = (byte)"etaoin shrdlu"[random.Next(13)];
                    }

                    break;
                default:
                    break;
            }

            at += count;
        }

        return bytes;
    }
}
