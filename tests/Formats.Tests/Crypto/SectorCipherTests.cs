using System.Security.Cryptography;
using ImageMount.Formats.Crypto;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Crypto;

/// <summary>Ciphers and modes: known answers, and our own AES against the platform's.</summary>
public sealed class SectorCipherTests
{
    private static readonly string[] AesModes =
    [
        "aes-xts-plain64", "aes-xts-plain", "aes-xts-plain64be", "aes-xts-essiv:sha256", "aes-xts-null", "aes-cbc-plain",
        "aes-cbc-plain64", "aes-cbc-essiv:sha256", "aes-cbc-null", "aes-ctr-plain64", "aes-ctr-plain64be", "aes-ecb",
    ];

    public static TheoryData<string, int, int> AesCases()
    {
        var cases = new TheoryData<string, int, int>();
        foreach (string mode in AesModes)
        {
            foreach (int bits in (int[])[128, 192, 256])
            {
                foreach (int sectorSize in (int[])[512, 1024, 4096])
                {
                    cases.Add(mode, mode.Contains("xts", StringComparison.Ordinal) ? bits / 4 : bits / 8, sectorSize);
                }
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(AesCases))]
    public void Processor_and_library_agree_and_undo_each_other(string name, int keySize, int sectorSize)
    {
        var random = new Random(4711);
        var key = new byte[keySize];
        random.NextBytes(key);
        CipherSpec spec = CipherSpec.Parse(name);
        using ISectorCipher fast = spec.Create(key, sectorSize, accelerated: true);
        using ISectorCipher plain = spec.Create(key, sectorSize, accelerated: false);
        foreach (ulong sector in (ulong[])[0, 1, 0xffff_ffff, 0x1_0000_0007, 0xffff_ffff_ffff_ff00])
        {
            foreach (int sectors in (int[])[1, 2, 7, 8, 9, 19])
            {
                byte[] data = TestPattern.Make(sectors * sectorSize, 0, sectors);
                byte[] one = [.. data];
                byte[] two = [.. data];
                fast.Encrypt(sector, one);
                plain.Encrypt(sector, two);
                TestPattern.AssertEqual(two, one, 0, $"{name} {keySize} sector {sector}");
                Assert.NotEqual(data, one);
                fast.Decrypt(sector, two);
                plain.Decrypt(sector, one);
                TestPattern.AssertEqual(data, two, 0, "decrypted by the processor");
                TestPattern.AssertEqual(data, one, 0, "decrypted by the library");
            }
        }
    }

    [Theory]
    [MemberData(nameof(AesCases))]
    public void Sectors_one_by_one_are_the_same_as_many_at_once(string name, int keySize, int sectorSize)
    {
        var key = TestPattern.Make(keySize, 0, 3);
        using ISectorCipher cipher = CipherSpec.Parse(name).Create(key, sectorSize);
        byte[] data = TestPattern.Make(11 * sectorSize, 0, 1);
        byte[] whole = [.. data];
        cipher.Encrypt(77, whole);
        for (int i = 0; i < 11; i++)
        {
            Span<byte> sector = data.AsSpan(i * sectorSize, sectorSize);
            cipher.Encrypt(77 + (ulong)(i * sectorSize / 512), sector);
        }

        TestPattern.AssertEqual(data, whole, 0, name);
    }

    [Theory]
    [InlineData("aes-xts-plain64:sha256", "aes-xts-plain64")]
    [InlineData("serpent-ctr-plain:sha1", "serpent-ctr-plain")]
    public void Hash_that_nothing_needs_is_passed_over(string name, string same) =>
        Assert.Equal(CipherSpec.Parse(same), CipherSpec.Parse(name));

    // FIPS 197, appendix C: the key counts up from 0, the block from 0x00 in steps of 0x11.
    [Theory]
    [InlineData(16, "69c4e0d86a7b0430d8cdb78070b4c55a")]
    [InlineData(24, "dda97ca4864cdfe06eaf70a0ec0d7191")]
    [InlineData(32, "8ea2b7ca516745bfeafc49904b496089")]
    public void Aes_gives_the_answers_of_its_standard(int keySize, string expected)
    {
        byte[] key = [.. Enumerable.Range(0, keySize).Select(i => (byte)i)];
        var data = new byte[512];
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = (byte)(i % 16 * 0x11);
        }

        using ISectorCipher cipher = CipherSpec.Parse("aes-ecb").Create(key);
        cipher.Encrypt(0, data);
        Assert.Equal(expected, Convert.ToHexStringLower(data.AsSpan(0, 16)));
        Assert.Equal(expected, Convert.ToHexStringLower(data.AsSpan(496, 16)));
    }

    // IEEE 1619-2007, annex B, vectors 4 and 10: their data units are numbered as plain64 numbers sectors.
    [Theory]
    [InlineData(
        "2718281828459045235360287471352631415926535897932384626433832795", 0,
        "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c")]
    [InlineData(
        "2718281828459045235360287471352662497757247093699959574966967627"
        + "3141592653589793238462643383279502884197169399375105820974944592", 0xff,
        "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b")]
    public void Xts_gives_the_answers_of_its_standard(string key, ulong unit, string expected)
    {
        byte[] data = [.. Enumerable.Range(0, 512).Select(i => (byte)i)];
        using ISectorCipher cipher = CipherSpec.Parse("aes-xts-plain64").Create(Convert.FromHexString(key));
        cipher.Encrypt(unit, data);
        Assert.Equal(expected, Convert.ToHexStringLower(data.AsSpan(0, 32)));
    }

    [Fact]
    public void Triple_des_is_the_platforms()
    {
        byte[] key = TestPattern.Make(24, 0, 8);
        byte[] data = TestPattern.Make(1024, 0, 9);
        using var des = TripleDES.Create();
        des.Key = key;
        byte[] expected = [];
        for (int sector = 0; sector < 2; sector++)
        {
            byte[] iv = [(byte)(5 + sector), 0, 0, 0, 0, 0, 0, 0];
            expected = [.. expected, .. des.EncryptCbc(data.AsSpan(sector * 512, 512), iv, PaddingMode.None)];
        }

        using ISectorCipher cipher = CipherSpec.Parse("des3_ede-cbc-plain64").Create(key);
        byte[] ours = [.. data];
        cipher.Encrypt(5, ours);
        Assert.Equal(expected, ours);
        cipher.Decrypt(5, ours);
        Assert.Equal(data, ours);
    }

    [Theory]
    [InlineData("serpent-xts-plain64", 64)]
    [InlineData("twofish-xts-plain64", 32)]
    [InlineData("cast5-cbc-plain64", 16)]
    [InlineData("serpent-cbc-essiv:sha256", 32)]
    [InlineData("twofish-ctr-plain", 24)]
    [InlineData("cast5-ctr-plain64be", 16)]
    public void Other_ciphers_undo_themselves_on_many_threads(string name, int keySize)
    {
        // Against mixing up the engines, which are for one thread each; that they are the right ones, peers show.
        using ISectorCipher cipher = CipherSpec.Parse(name).Create(TestPattern.Make(keySize, 0, 1));
        byte[] once = TestPattern.Make(4096, 0, 2);
        cipher.Encrypt(9, once);
        Parallel.For(0, 64, _ =>
        {
            byte[] data = TestPattern.Make(4096, 0, 2);
            cipher.Encrypt(9, data);
            Assert.Equal(once, data);
            cipher.Decrypt(9, data);
            Assert.Equal(TestPattern.Make(4096, 0, 2), data);
        });
    }

    [Theory]
    [InlineData("aes-xts-plain64", 64, true)]
    [InlineData("aes-xts-plain64", 64, false)]
    [InlineData("aes-cbc-essiv:sha256", 32, true)]
    [InlineData("serpent-xts-plain64", 64, false)]
    public void Warm_calls_allocate_nothing(string name, int keySize, bool accelerated)
    {
        using ISectorCipher cipher = CipherSpec.Parse(name).Create(TestPattern.Make(keySize, 0, 1), 512, accelerated);
        var data = new byte[8192];
        Assert.Equal(0, Allocations.Least(20, () =>
        {
            for (int i = 0; i < 20; i++)
            {
                cipher.Encrypt(1, data);
                cipher.Decrypt(1, data);
            }
        }));
    }

    [Theory]
    [InlineData("aes")]
    [InlineData("aes-xts")]
    [InlineData("aes-gcm-random")]
    [InlineData("aes-cbc-benbi")]
    [InlineData("aes-cbc-essiv")]
    [InlineData("aes-cbc-plain64:md4")]
    [InlineData("aes-cbc-plain64:")]
    [InlineData("aes-cbc-:sha256")]
    [InlineData("aes-cbc-essiv:md4")]
    [InlineData("cipher_null-ecb")]
    [InlineData("capi:xts(aes)-plain64")]
    [InlineData("\u001b[2J-xts-plain64")]
    [InlineData("")]
    public void What_is_not_known_is_refused_by_name(string name)
    {
        var e = Assert.Throws<BlockException>(() => CipherSpec.Parse(name));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.DoesNotContain('\u001b', e.Describe());
    }

    [Theory]
    [InlineData("cast5-xts-plain64", 32)]
    [InlineData("aes-xts-plain64", 33)]
    [InlineData("aes-xts-plain64", 16)]
    [InlineData("aes-cbc-plain64", 64)]
    [InlineData("aes-cbc-essiv:sha1", 16)]
    public void Keys_that_do_not_fit_are_refused(string name, int keySize)
    {
        CipherSpec spec = CipherSpec.Parse(name);
        Assert.NotNull(spec.WhyNot(keySize));
        Assert.Equal(BlockErrorKind.InvalidData, Assert.Throws<BlockException>(() => spec.Create(new byte[keySize])).Kind);
    }
}
