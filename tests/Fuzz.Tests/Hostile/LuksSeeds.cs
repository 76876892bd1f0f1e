using System.Text.Json;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>LUKS images to be damaged, and what cryptsetup makes of damaged ones.</summary>
public static class LuksSeeds
{
    private const int Seed = 5006;

    public static List<SeedImage> Both()
    {
        PeerTool.Require();
        using var dir = new TempDir();
        string raw = dir.Write("raw", TestPattern.Make(64 << 10, 0, Seed));
        string path = dir.File("luks1");
        LuksImages.Convert(
            dir, "raw", raw, "luks", path,
            $"key-secret={LuksImages.SecretId},iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain64");
        return [new SeedImage("luks1", File.ReadAllBytes(path)), Version2()];
    }

    public static SeedImage Version2()
    {
        using var dir = new TempDir();
        string path = dir.WriteSparse("luks2", 640 << 10);
        LuksImages.Cryptsetup(
            "luksFormat", "--type", "luks2", "-s", "256", "--luks2-keyslots-size", "256k", "--offset", "1024", "--pbkdf",
            "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--key-file", LuksImages.KeyFile(dir), path);
        return new SeedImage("luks2", File.ReadAllBytes(path));
    }

    /// <summary>Headers that lie in a file of their own; the payload is whole.</summary>
    public static List<SeedImage> Detached()
    {
        Require.Tool("cryptsetup");
        using var dir = new TempDir();
        byte[] payload = TestPattern.Make((64 << 10) + 512, 0, Seed);
        string data = dir.Write("payload", payload);
        var seeds = new List<SeedImage>();
        foreach (string version in (string[])["1", "2"])
        {
            string header = dir.WriteSparse($"header{version}", 4 << 20);
            string[] place = version == "1" ? [] : ["--luks2-keyslots-size", "256k"];
            LuksImages.Cryptsetup([
                "luksFormat", "--type", $"luks{version}", "-s", "256", .. place, "--header", header,
                .. LuksImages.CheapForCryptsetup, "--key-file", LuksImages.KeyFile(dir), data]);
            seeds.Add(new SeedImage($"luks{version} header", File.ReadAllBytes(header)[..(512 << 10)])
            {
                Role = "header",
                File = payload,
            });
        }

        return seeds;
    }

    /// <summary>
    /// What cryptsetup makes of a LUKS2 image: it says the volume key and the segment, and luks1.py decrypts that with
    /// libgcrypt. Several segments, tweaks and larger sectors are more than this does.
    /// </summary>
    public static bool ReadByCryptsetup(string path, string flat)
    {
        string key = flat + ".key";
        string volumeKey = flat + ".volume-key";
        File.WriteAllText(key, LuksImages.Passphrase);
        ToolResult opened = Cryptsetup("--dump-volume-key", "--volume-key-file", volumeKey, "--key-file", key, path);
        ToolResult json = Cryptsetup("--dump-json-metadata", path);
        if (opened.ExitCode != 0 || json.ExitCode != 0)
        {
            return false;
        }

        using JsonDocument metadata = JsonDocument.Parse(json.Output);
        List<JsonProperty> segments = [.. metadata.RootElement.GetProperty("segments").EnumerateObject()];
        JsonElement segment = segments[0].Value;
        if (segments.Count > 1 || segment.GetProperty("iv_tweak").GetString() != "0"
            || segment.GetProperty("sector_size").GetInt32() != 512)
        {
            return false;
        }

        string how = $"{Convert.ToHexStringLower(File.ReadAllBytes(volumeKey))}:{segment.GetProperty("encryption").GetString()}:"
            + segment.GetProperty("offset").GetString();
        ToolResult decrypted = LuksImages.Script("read", path, how, flat);
        if (decrypted.ExitCode == 0 && long.TryParse(segment.GetProperty("size").GetString(), out long size))
        {
            using FileStream file = File.OpenWrite(flat);
            file.SetLength(Math.Min(size, file.Length));
        }

        return decrypted.ExitCode == 0;
    }

    /// <summary>Damaged costs may keep it busy for hours.</summary>
    private static ToolResult Cryptsetup(params string[] arguments) =>
        Qemu.Run("timeout", ["5", Require.FindTool("cryptsetup")!, "--batch-mode", "luksDump", .. arguments]);
}
