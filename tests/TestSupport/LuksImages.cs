using System.Text;
using ImageMount.Core.Secrets;

namespace ImageMount.TestSupport;

/// <summary>Encrypted images for tests: passphrases, and images made cheaply by us, by qemu-img and by cryptsetup.</summary>
public static class LuksImages
{
    /// <summary>The passphrase of every image here, unless a test says otherwise.</summary>
    public const string Passphrase = "correct horse";

    /// <summary>The id under which <see cref="Secrets"/> has it.</summary>
    public const string SecretId = "key";

    /// <summary>What makes our own images cheap to unlock.</summary>
    public const string Cheap = "pbkdf-force-iterations=1000";

    /// <summary>The same for LUKS2 with argon2.</summary>
    public const string CheapArgon = "pbkdf-force-iterations=4,pbkdf-memory=64";

    /// <summary>The same for cryptsetup.</summary>
    public static readonly string[] CheapForCryptsetup = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

    /// <summary>A store with the passphrase, by id and as default, and more by id.</summary>
    public static SecretStore Secrets(params (string Id, string Text)[] more)
    {
        var store = new SecretStore { Default = Secret(Passphrase) };
        store.Add(SecretId, Secret(Passphrase));
        foreach ((string id, string text) in more)
        {
            store.Add(id, Secret(text));
        }

        return store;
    }

    /// <summary>A store with another default passphrase.</summary>
    public static SecretStore With(string passphrase) => new() { Default = Secret(passphrase) };

    /// <summary>A text as a secret.</summary>
    public static Secret Secret(string text) => new(Encoding.UTF8.GetBytes(text));

    /// <summary>Flags that carry the passphrase.</summary>
    public static OpenFlags Flags(bool writable = false) => new() { Writable = writable, Secrets = Secrets() };

    /// <summary>Makes an image with our creator.</summary>
    /// <param name="path">The file.</param>
    /// <param name="format">"luks" or "qcow2".</param>
    /// <param name="options">As for -o, without the size.</param>
    /// <param name="size">Bytes.</param>
    public static async Task CreateAsync(string path, string format, string options, long size)
    {
        OptionMap map = OptionSyntax.ParsePairs(options);
        map.Set("size", size.ToString(System.Globalization.CultureInfo.InvariantCulture));
        await new ImageMaker(TestGraph.Registry).CreateAsync(
            format, path, map, new CreateRequest { Flags = Flags(writable: true) });
    }

    /// <summary>Makes an image with our creator, and writes a content into it.</summary>
    public static async Task CreateAsync(string path, string format, string options, byte[] content)
    {
        await CreateAsync(path, format, options, content.Length);
        await using Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.ForFile(path, format), Flags(writable: true));
        await graph.Root.WriteAsync(0, content);
    }

    /// <summary>Opens an image with the passphrase.</summary>
    public static ValueTask<Graph> OpenAsync(string path, bool writable = false, string? format = null) =>
        TestGraph.Opener.OpenAsync(TestGraph.ForFile(path, format), Flags(writable));

    /// <summary>Reads a whole disk.</summary>
    public static async Task<byte[]> ReadAllAsync(BlockNode node)
    {
        var bytes = new byte[node.Length];
        for (int at = 0; at < bytes.Length; at += 777 << 10)
        {
            await node.ReadAsync(at, bytes.AsMemory(at, Math.Min(777 << 10, bytes.Length - at)));
        }

        return bytes;
    }

    /// <summary>Compares a whole disk.</summary>
    public static async Task AssertContentAsync(BlockNode node, byte[] expected, string context)
    {
        byte[] found = await ReadAllAsync(node);
        TestPattern.AssertEqual(expected, found, 0, context);
    }

    /// <summary>A key file for peers.</summary>
    public static string KeyFile(TempDir dir, string passphrase = Passphrase) =>
        dir.Write("key-" + Math.Abs(passphrase.GetHashCode()), Encoding.UTF8.GetBytes(passphrase));

    /// <summary>Converts between formats with qemu-img; encrypted ones have the passphrase.</summary>
    public static void Convert(TempDir dir, string fromFormat, string from, string toFormat, string to, string options = "")
    {
        List<string> arguments = ["convert", "--object", $"secret,id={SecretId},file={KeyFile(dir)}", "--image-opts"];
        if (options.Length > 0)
        {
            arguments.AddRange(["-o", options]);
        }

        arguments.AddRange(["-O", toFormat, Source(fromFormat, from), to]);
        RetryImg([.. arguments]);
    }

    /// <summary>
    /// qemu-img measures how fast the machine is when it makes a LUKS header, and gives up when the machine is busy.
    /// </summary>
    public static void RetryImg(params string[] arguments)
    {
        ToolResult result = Qemu.Run("qemu-img", arguments);
        for (int i = 0; i < 20 && result.Error.Contains("accurate CPU usage", StringComparison.Ordinal); i++)
        {
            result = Qemu.Run("qemu-img", arguments);
        }

        Assert.True(result.ExitCode == 0, $"qemu-img {string.Join(' ', arguments)} gave {result.ExitCode}: {result.All}");
    }

    /// <summary>The flat content of an encrypted image, as qemu-img reads it.</summary>
    public static byte[] ReadByQemu(TempDir dir, string format, string path)
    {
        string raw = dir.File("by-qemu.raw");
        Convert(dir, format, path, "raw", raw);
        byte[] content = File.ReadAllBytes(raw);
        File.Delete(raw);
        return content;
    }

    /// <summary>What --image-opts needs to open an image with the passphrase.</summary>
    public static string Source(string format, string path) => format switch
    {
        "luks" => $"driver=luks,key-secret={SecretId},file.filename={path}",
        "qcow2" or "qcow" => $"driver={format},encrypt.key-secret={SecretId},file.filename={path}",
        _ => $"driver={format},file.filename={path}",
    };

    /// <summary>Asks qemu-img whether an encrypted image is sound; it wants the passphrase for that too.</summary>
    public static void CheckByQemu(TempDir dir, string path, string passphrase = Passphrase, string options = "") =>
        Qemu.Img(
            "check", "--object", $"secret,id={SecretId},file={KeyFile(dir, passphrase)}", "--image-opts",
            Source("qcow2", path) + options);

    /// <summary>Runs cryptsetup and requires success.</summary>
    public static string Cryptsetup(params string[] arguments) =>
        Qemu.Succeed("cryptsetup", ["--batch-mode", .. arguments]);

    /// <summary>Runs luks1.py (tests/Interop.Tests/Peers), with the system's python: others may start slowly.</summary>
    public static ToolResult Script(params string[] arguments) => Qemu.Run(
        File.Exists("/usr/bin/python3") ? "/usr/bin/python3" : "python3",
        [Path.Combine(AppContext.BaseDirectory, "Peers/luks1.py"), .. arguments]);

    /// <summary>Whether cryptsetup finds that a passphrase opens an image.</summary>
    public static bool CryptsetupOpens(TempDir dir, string path, string passphrase = Passphrase)
    {
        ToolResult result = Qemu.Run(
            "cryptsetup", "open", "--test-passphrase", "--key-file", KeyFile(dir, passphrase), path);
        bool isAnswer = result.ExitCode is 0 or 2 || result.All.Contains("No usable keyslot", StringComparison.Ordinal);
        Assert.True(isAnswer, $"cryptsetup gave {result.ExitCode}: {result.All}");
        return result.ExitCode == 0;
    }
}
