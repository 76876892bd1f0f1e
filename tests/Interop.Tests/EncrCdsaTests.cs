using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Encrypted Apple images: no program here opens them, so the openssl tool does, step by step as the format says: derive,
/// unwrap, make the vector of a chunk, decrypt the chunk.
/// </summary>
public sealed class EncrCdsaTests
{
    [SkippableTheory]
    [InlineData(128, 512)]
    [InlineData(256, 4096)]
    public async Task Openssl_opens_chunks_of_encrcdsa_as_we_do(int keyBits, int chunk)
    {
        Require.Tool("openssl");
        using var scratch = new Scratch();
        byte[] content = TestPattern.Make(40_000, 0, keyBits);
        var writer = new EncrCdsaWriter { KeyBits = keyBits, ChunkSize = chunk, Iterations = 1000 };
        byte[] image = writer.Build(content);
        string path = scratch["disk.dmg"];
        File.WriteAllBytes(path, image);
        var secrets = new SecretStore();
        secrets.Add("it", new Secret(Encoding.UTF8.GetBytes(writer.Passphrase)));
        await using Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.Parser.ParseImageOptions($"driver=encrcdsa,key-secret=it,file.filename={path}"),
            new OpenFlags { Secrets = secrets });

        const int Key = 0x400;
        string derived = Qemu.Succeed(
            "openssl", "kdf", "-keylen", "24", "-kdfopt", "digest:SHA1", "-kdfopt", $"pass:{writer.Passphrase}",
            "-kdfopt", $"hexsalt:{Convert.ToHexString(image.AsSpan(Key + 16, 20))}", "-kdfopt", "iter:1000", "PBKDF2")
            .Replace(":", "", StringComparison.Ordinal).Trim();
        int blobSize = BinaryPrimitives.ReadInt32BigEndian(image.AsSpan(Key + 100));
        byte[] keys = Decrypt(
            scratch, "des-ede3-cbc", derived, image.AsSpan(Key + 52, 8), image.AsSpan(Key + 104, blobSize));
        foreach (int number in (int[])[0, 1, 7])
        {
            File.WriteAllBytes(scratch["number"], [0, 0, 0, (byte)number]);
            string vector = Qemu.Succeed(
                "openssl", "mac", "-digest", "SHA1", "-macopt",
                $"hexkey:{Convert.ToHexString(keys.AsSpan(keyBits / 8, 20))}", "-in", scratch["number"], "HMAC").Trim();
            byte[] plain = Decrypt(
                scratch, $"aes-{keyBits}-cbc", Convert.ToHexString(keys.AsSpan(0, keyBits / 8)),
                Convert.FromHexString(vector).AsSpan(0, 16),
                image.AsSpan(EncrCdsaWriter.DataOffset + number * chunk, chunk));
            byte[] ours = new byte[chunk];
            await graph.Root.ReadAsync((long)number * chunk, ours);
            TestPattern.AssertEqual(plain, ours, number * chunk, $"chunk {number}");
            TestPattern.AssertEqual(content.AsSpan(number * chunk, chunk), ours, number * chunk, $"chunk {number}");
        }
    }

    private static byte[] Decrypt(
        Scratch scratch, string cipher, string key, ReadOnlySpan<byte> iv, ReadOnlySpan<byte> encrypted)
    {
        File.WriteAllBytes(scratch["in"], encrypted);
        Qemu.Succeed(
            "openssl", "enc", "-d", $"-{cipher}", "-nopad", "-K", key, "-iv", Convert.ToHexString(iv),
            "-in", scratch["in"], "-out", scratch["out"]);
        return File.ReadAllBytes(scratch["out"]);
    }
}
