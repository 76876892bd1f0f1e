using ImageMount.Formats.Crypto;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;
using Org.BouncyCastle.Crypto.Digests;

namespace ImageMount.Formats.Tests.Crypto;

/// <summary>
/// Keys go when a cipher or an image is closed. Two ciphers that differ only in their keys are, when they are closed,
/// the same in every number that can be reached from them: then nothing is left that comes of the key.
/// </summary>
public sealed class WipedKeyTests
{
    private static readonly string[] Modes = ["cbc-plain64", "ctr-plain64", "ecb"];

    public static TheoryData<string, int, bool> Ciphers()
    {
        var cases = new TheoryData<string, int, bool>();
        foreach (string cipher in (string[])["aes", "serpent", "twofish"])
        {
            foreach (int size in (int[])[16, 24, 32])
            {
                foreach (bool accelerated in cipher == "aes" ? (bool[])[true, false] : [false])
                {
                    cases.Add($"{cipher}-xts-plain64", size * 2, accelerated);
                    cases.Add($"{cipher}-cbc-essiv:sha256", size, accelerated);
                    foreach (string mode in Modes)
                    {
                        cases.Add($"{cipher}-{mode}", size, accelerated);
                    }
                }
            }
        }

        foreach (string mode in Modes)
        {
            cases.Add($"cast5-{mode}", 16, false);
            cases.Add($"cast5-{mode}", 5, false);
            cases.Add($"des3_ede-{mode}", 24, false);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Ciphers))]
    public void Closed_cipher_holds_nothing_that_comes_of_its_key(string name, int keySize, bool accelerated)
    {
        byte[] key = TestPattern.Make(keySize, 0, 1);
        byte[] other = TestPattern.Make(keySize, 0, 2);
        (ISectorCipher one, ReachableMemory memory) = Make(name, key, accelerated);
        (ISectorCipher two, ReachableMemory otherMemory) = Make(name, other, accelerated);
        SortedDictionary<string, string> before = ReadSchedule(memory);
        SortedDictionary<string, string> otherBefore = ReadSchedule(otherMemory);
        Assert.Equal(before.Keys, otherBefore.Keys);
        if (accelerated || !name.StartsWith("aes", StringComparison.Ordinal))
        {
            Assert.True(before.Count(pair => otherBefore[pair.Key] != pair.Value) > 1, "the schedule is not seen");
        }

        one.Dispose();
        two.Dispose();
        SortedDictionary<string, string> after = otherMemory.Read();
        Assert.All(memory.Read(), pair => Assert.True(after[pair.Key] == pair.Value, $"{pair.Key}: {pair.Value}"));
        Assert.Empty(memory.Find(key));

        // What was wiped was this cipher's own: another works as before.
        (ISectorCipher again, ReachableMemory same) = Make(name, key, accelerated);
        Assert.Equal(before, ReadSchedule(same));
        again.Dispose();
    }

    [Theory]
    [InlineData("sha224", 9)]
    [InlineData("ripemd160", 64)]
    [InlineData("ripemd160", 65)]
    [InlineData("whirlpool", 20)]
    [InlineData("whirlpool", 300)]
    public void Closed_mac_holds_nothing_that_comes_of_its_key(string name, int keySize)
    {
        Func<Org.BouncyCastle.Crypto.IDigest> digest = name switch
        {
            "sha224" => static () => new Sha224Digest(),
            "ripemd160" => static () => new RipeMD160Digest(),
            _ => static () => new WhirlpoolDigest(),
        };
        var reads = new List<SortedDictionary<string, string>>();
        foreach (int seed in (int[])[1, 2])
        {
            byte[] key = TestPattern.Make(keySize, 0, seed);
            var mac = new DigestMac(digest, key);
            var result = new byte[digest().GetDigestSize()];
            mac.Compute("some salt"u8.ToArray(), result);
            mac.Compute(result, result);

            // The library's own, which keeps what this does not, says what the answer is.
            var theirs = new Org.BouncyCastle.Crypto.Macs.HMac(digest());
            theirs.Init(new Org.BouncyCastle.Crypto.Parameters.KeyParameter(key));
            var expected = new byte[result.Length];
            theirs.BlockUpdate("some salt"u8.ToArray(), 0, 9);
            theirs.DoFinal(expected, 0);
            theirs.BlockUpdate(expected, 0, expected.Length);
            theirs.DoFinal(expected, 0);
            Assert.Equal(expected, result);
            var memory = new ReachableMemory(mac);
            reads.Add(memory.Read());
            mac.Dispose();
            reads.Add(memory.Read());
        }

        Assert.NotEqual(reads[0], reads[2]);
        Assert.Equal(reads[1], reads[3]);
    }

    [Theory]
    [InlineData("luks", "")]
    [InlineData("luks", "cipher-alg=serpent-256")]
    [InlineData("luks", "cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=essiv")]
    [InlineData("luks", "cipher-alg=cast5-128,cipher-mode=cbc,hash-alg=ripemd160")]
    [InlineData("luks", "cipher-alg=3des,cipher-mode=cbc")]
    [InlineData("luks", "version=2,pbkdf-memory=64")]
    [InlineData("qcow2", "encrypt.format=luks")]
    [InlineData("qcow2", "encrypt.format=luks,encrypt.cipher-alg=serpent-128")]
    [InlineData("qcow2", "encrypt.format=aes")]
    [InlineData("qcow", "encrypt.format=aes")]
    public async Task Closed_image_holds_no_key(string format, string options)
    {
        using var dir = new TempDir();
        string path = dir.File("disk");
        string cost = options.Contains("pbkdf-memory", StringComparison.Ordinal) ? "pbkdf-force-iterations=4"
            : format == "luks" ? LuksImages.Cheap
            : options.Contains("luks", StringComparison.Ordinal) ? "encrypt." + LuksImages.Cheap : "";
        byte[] content = TestPattern.Make(256 << 10, 0, 1);
        await LuksImages.CreateAsync(path, format, string.Join(',', ((string[])[options, cost]).Where(o => o.Length > 0)), content);
        Graph graph = await LuksImages.OpenAsync(path, writable: true);
        await LuksImages.AssertContentAsync(graph.Root, content, format);
        await graph.Root.WriteAsync(4096, content.AsMemory(0, 8192));
        BlockDevice device = graph.Image.Device;
        var memory = new ReachableMemory(device);

        // The older AES has the passphrase itself as key; the others keep their key as a secret.
        List<byte[]> keys = options.Contains("aes", StringComparison.Ordinal)
            ? [[.. System.Text.Encoding.UTF8.GetBytes(LuksImages.Passphrase), 0, 0, 0]]
            : [.. memory.Secrets.Select(found => found.Secret.Span.ToArray())];
        Assert.Single(keys);
        Assert.All(keys, key => Assert.NotEmpty(memory.Find(key)));
        await graph.DisposeAsync();
        Assert.All(keys, key => Assert.Empty(memory.Find(key)));
        Assert.All(keys, key => Assert.Empty(new ReachableMemory(device).Find(key)));
    }

    [Theory]
    [InlineData(128)]
    [InlineData(256)]
    public async Task Closed_disk_image_of_macos_holds_no_key(int keyBits)
    {
        byte[] content = TestPattern.Make(100_000, 0, 1);
        var writer = new EncrCdsaWriter { KeyBits = keyBits };
        Graph graph = await TestGraph.Opener.OpenOverAsync(
            "encrcdsa", new BlockNode("test.dmg", "memory", new MemoryDevice(writer.Build(content))),
            new OpenFlags { Secrets = LuksImages.With(writer.Passphrase) });
        await LuksImages.AssertContentAsync(graph.Root, content, "encrcdsa");
        var memory = new ReachableMemory(graph.Root.Device);
        byte[] key = Assert.Single(memory.Secrets).Secret.Span.ToArray();
        Assert.NotEmpty(memory.Find(key));
        await graph.DisposeAsync();
        Assert.Empty(memory.Find(key));
    }

    /// <summary>All but the data of the last call, behind which there is whatever was there before.</summary>
    private static SortedDictionary<string, string> ReadSchedule(ReachableMemory memory)
    {
        SortedDictionary<string, string> all = memory.Read();
        foreach (string path in all.Keys.Where(path => path.Contains("Scratch", StringComparison.Ordinal)).ToArray())
        {
            all.Remove(path);
        }

        return all;
    }

    private static (ISectorCipher Cipher, ReachableMemory Memory) Make(string name, byte[] key, bool accelerated)
    {
        ISectorCipher cipher = CipherSpec.Parse(name).Create(key, 512, accelerated);
        byte[] data = TestPattern.Make(2048, 0, 3);
        cipher.Encrypt(5, data);
        cipher.Decrypt(9, data);
        return (cipher, new ReachableMemory(cipher));
    }
}
