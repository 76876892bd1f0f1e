using System.Collections.Concurrent;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>
/// The payload of LUKS over cipher, size of the key, mode, vectors, hash and version, such that every pair of values
/// occurs. Each image is read and written by every peer that can: luks1.py (python and libgcrypt, which shares no code
/// with us), qemu-img for LUKS1, and cryptsetup for the header, the volume key and the ciphers that the kernel has.
/// </summary>
public sealed class LuksMatrixTests(ITestOutputHelper output)
{
    private const int Size = (64 << 10) + (3 * 512);
    private const int Seed = 3003;

    private static readonly string[] Ciphers =
    [
        "aes-256", "aes-192", "aes-128", "serpent-256", "serpent-192", "serpent-128", "twofish-256", "twofish-192",
        "twofish-128", "cast5-128", "3des",
    ];

    private static readonly string[] Modes = ["xts", "cbc", "ctr", "ecb"];
    private static readonly string[] Vectors = ["plain64", "plain", "essiv"];
    private static readonly string[] Hashes = ["sha256", "sha1", "sha224", "sha384", "sha512", "ripemd160"];
    private static readonly int[] Versions = [1, 2];

    [SkippableFact]
    public async Task Every_pair_of_options_is_read_and_written_alike_by_all_who_can()
    {
        Require.Tool("python3");
        Require.Tool("cryptsetup");
        Require.Tool("qemu-img");
        List<int[]> rows = Covering.Pairs(
            [Ciphers.Length, Modes.Length, Vectors.Length, Hashes.Length, Versions.Length],
            row => CanBe(Ciphers[row[0]], Modes[row[1]], Vectors[row[2]]), Seed);
        var counts = new ConcurrentDictionary<string, int>();
        await Parallel.ForEachAsync(
            rows, new ParallelOptions { MaxDegreeOfParallelism = 3 },
            async (row, _) => await CompareAsync(
                Ciphers[row[0]], Modes[row[1]], Vectors[row[2]], Hashes[row[3]], Versions[row[4]], counts));
        output.WriteLine($"{rows.Count} images; compared with {string.Join(", ", counts.OrderBy(pair => pair.Key))}");
        Assert.True(counts["luks1.py"] > rows.Count * 3 / 4);
        Assert.True(counts["qemu"] > rows.Count / 4);
        Assert.True(counts["cryptsetup"] > rows.Count / 2);
    }

    /// <summary>xts is for blocks of 16 bytes; essiv needs a hash that gives a key, which only sha256 does.</summary>
    internal static bool CanBe(string cipher, string mode, string vectors)
    {
        bool isSmall = cipher is "cast5-128" or "3des";
        return (mode != "xts" || !isSmall) && (vectors != "essiv" || (!isSmall && mode != "ecb"));
    }

    /// <summary>QEMU 7.2 has no 3des, and fails where the key material of a slot is not whole sectors.</summary>
    internal static bool QemuCan(string cipher, string mode) =>
        cipher != "3des" && (mode == "xts" || !cipher.EndsWith("-192", StringComparison.Ordinal));

    private static async Task CompareAsync(
        string cipher, string mode, string vectors, string hash, int version, ConcurrentDictionary<string, int> counts)
    {
        using var dir = new TempDir();
        string options = $"version={version},cipher-alg={cipher},cipher-mode={mode},ivgen-alg={vectors},hash-alg={hash},"
            + (version == 1 ? "" : "pbkdf=pbkdf2,") + LuksImages.Cheap;
        string path = dir.File("disk.luks");
        byte[] content = TestPattern.Make(Size, 0, 1);
        await LuksImages.CreateAsync(path, "luks", options, content);
        string key = "passphrase:" + LuksImages.KeyFile(dir);

        // cryptsetup opens the key material of LUKS1 by the kernel's ciphers, here only AES.
        if (version == 2 || (cipher.StartsWith("aes", StringComparison.Ordinal) && !(cipher == "aes-192" && mode == "xts")))
        {
            string volumeKey = dir.File("volume-key");
            LuksImages.Cryptsetup(
                "luksDump", "--dump-volume-key", "--volume-key-file", volumeKey, "--key-file", LuksImages.KeyFile(dir), path);
            string spec = DmCryptName(cipher, mode, vectors);
            long payload = version == 2 ? 16 << 20 : new FileInfo(path).Length - Size;
            key = $"{Convert.ToHexStringLower(File.ReadAllBytes(volumeKey))}:{spec}:{payload}";
            counts.AddOrUpdate("cryptsetup", 1, (_, count) => count + 1);
        }

        if (version == 1 && mode != "ecb" && QemuCan(cipher, mode)) // It wants vectors in the name of ecb too.
        {
            TestPattern.AssertEqual(content, LuksImages.ReadByQemu(dir, "luks", path), 0, $"{options}, by qemu");
            counts.AddOrUpdate("qemu", 1, (_, count) => count + 1);
        }

        string plain = dir.File("plain");
        if (cipher == "twofish-192")
        {
            return; // libgcrypt does not have it.
        }

        Script("read", path, key, plain);
        TestPattern.AssertEqual(content, File.ReadAllBytes(plain), 0, $"{options}, by luks1.py");
        TestPattern.Fill(content, 0, 2);
        File.WriteAllBytes(plain, content);
        Script("write", path, key, plain);
        counts.AddOrUpdate("luks1.py", 1, (_, count) => count + 1);
        await using Graph graph = await LuksImages.OpenAsync(path);
        await LuksImages.AssertContentAsync(graph.Root, content, $"{options}, written by luks1.py");
    }

    private static void Script(params string[] arguments)
    {
        ToolResult result = LuksImages.Script(arguments);
        Assert.True(result.ExitCode == 0, $"luks1.py {string.Join(' ', arguments)} gave {result.ExitCode}: {result.All}");
    }

    private static string DmCryptName(string cipher, string mode, string vectors)
    {
        string name = cipher == "3des" ? "des3_ede" : cipher.Split('-')[0];
        return mode == "ecb" ? $"{name}-ecb" : $"{name}-{mode}-{(vectors == "essiv" ? "essiv:sha256" : vectors)}";
    }
}
