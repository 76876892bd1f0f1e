using System.Security.Cryptography;
using System.Text;
using ImageMount.Formats.Crypto;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Crypto;

/// <summary>From passphrases to keys.</summary>
public sealed class KeyDerivationTests
{
    // Test vectors of the reference implementation of Argon2 (phc-winner-argon2, src/test.c): version 0x13.
    [Theory]
    [InlineData(false, 2, 65536, 1, "c1628832147d9720c5bd1cfd61367078729f6dfb6f8fea9ff98158e0d7816ed0")]
    [InlineData(true, 2, 65536, 1, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7")]
    [InlineData(true, 2, 256, 2, "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037")]
    public void Argon2_gives_known_answers(bool isHybrid, int passes, int memoryKiB, int lanes, string expected)
    {
        var key = new byte[32];
        Argon2.Derive(isHybrid, "password"u8, "somesalt"u8, passes, memoryKiB, lanes, key);
        Assert.Equal(expected, Convert.ToHexStringLower(key));
    }

    // RFC 6070 for SHA-1; the platform for what it has; RIPEMD-160 from its authors' HMAC would not reach PBKDF2, so
    // that and SHA-224 are shown by the peers (LuksTests).
    [Theory]
    [InlineData("sha1", 2, 20, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957")]
    [InlineData("sha1", 4096, 20, "4b007901b765489abead49d926f721d065a429c1")]
    public void Pbkdf2_gives_known_answers(string hash, int iterations, int size, string expected)
    {
        var key = new byte[size];
        Hash.Get(hash).Pbkdf2("password"u8, "salt"u8, iterations, key);
        Assert.Equal(expected, Convert.ToHexStringLower(key));
    }

    [Theory]
    [InlineData("sha224", "", "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f")]
    [InlineData("sha224", "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7")]
    [InlineData("ripemd160", "", "9c1185a5c5e9fc54612808977ee8f548b2258d31")]
    [InlineData("ripemd160", "abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc")]
    public void Hashes_that_the_platform_lacks(string name, string text, string expected)
    {
        Hash hash = Hash.Get(name);
        var result = new byte[hash.Size];
        hash.Compute(Encoding.ASCII.GetBytes(text), result);
        Assert.Equal(expected, Convert.ToHexStringLower(result));
    }

    [Theory]
    [InlineData("sha256", 64, 4000)]
    [InlineData("sha1", 64, 4000)]
    [InlineData("ripemd160", 32, 7)]
    [InlineData("sha512", 24, 2)]
    [InlineData("sha256", 16, 1)]
    public void What_is_split_comes_together_and_any_change_spoils_it(string name, int keySize, int stripes)
    {
        byte[] key = RandomNumberGenerator.GetBytes(keySize);
        var split = new byte[keySize * stripes];
        Hash hash = Hash.Get(name);
        AntiForensic.Split(key, stripes, hash, split);
        var merged = new byte[keySize];
        AntiForensic.Merge(split, stripes, hash, merged);
        Assert.Equal(key, merged);
        split[split.Length / 2] ^= 1;
        AntiForensic.Merge(split, stripes, hash, merged);
        Assert.NotEqual(key, merged);
    }
}
