using System.Text.Json;
using ImageMount.Mount.Tests.Support;

namespace ImageMount.Mount.Tests;

/// <summary>Encrypted images mounted, and their passphrase seen nowhere.</summary>
public sealed class EncryptionTests
{
    private const string Passphrase = "xyzzy-plugh-4711";
    private const string Cheap = "pbkdf-force-iterations=1000";

    [SkippableTheory]
    [InlineData("luks", "")]
    [InlineData("qcow2", "encrypt.format=luks,encrypt.")]
    public void Encrypted_image_is_mounted_and_its_passphrase_is_nowhere_to_be_seen(string format, string prefix)
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, byte[] content) = Make(box, format, prefix);
        MountedImage mount = box.Mount(
            image, "--passphrase-file", box["key"], "--debug", "--log-file", box["log"], "--cache", "none");
        string disk = mount.Disk;
        Assert.Equal(content, File.ReadAllBytes(disk));
        using (FileStream file = File.OpenWrite(disk))
        {
            file.Seek(4096, SeekOrigin.Begin);
            file.Write(content.AsSpan(0, 8192));
            file.Flush(true);
        }

        string[] places =
        [
            File.ReadAllText($"/proc/{mount.ProcessId}/cmdline"), File.ReadAllText($"/proc/{mount.ProcessId}/environ"),
            File.ReadAllText("/proc/self/mountinfo"), File.ReadAllText(Path.Combine(mount.Point, ".imgmount/info.json")),
            File.Exists(box["log"]) ? File.ReadAllText(box["log"]) : "",
            Tool.Run(Tool.Imgmount, "list", "--json"), Tool.Run(Tool.Imgmount, "info", "--force-share", "--json", image),
        ];
        Assert.All(places, text => Assert.DoesNotContain(Passphrase, text, StringComparison.Ordinal));
        Tool.Run(Tool.Imgmount, "umount", mount.Point);
        content.AsSpan(0, 8192).CopyTo(content.AsSpan(4096));
        string flat = box["flat"];
        Tool.Run("qemu-img", "convert", "--object", $"secret,id=s,file={box["key"]}", "--image-opts", "-O", "raw",
            $"driver={format},{(format == "luks" ? "" : "encrypt.")}key-secret=s,file.filename={image}", flat);
        Assert.Equal(content, File.ReadAllBytes(flat));
    }

    [SkippableFact]
    public void Missing_and_wrong_passphrases_are_told_apart_and_leave_nothing_mounted()
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, _) = Make(box, "luks", "");
        ToolResult none = box.TryMount(image);
        Assert.Equal(1, none.ExitCode);
        Assert.Contains("--passphrase-file", none.Error, StringComparison.Ordinal);
        File.WriteAllText(box["wrong"], "not this one");
        ToolResult wrong = box.TryMount(image, "--passphrase-file", box["wrong"]);
        Assert.Equal(1, wrong.ExitCode);
        Assert.Contains("passphrase", wrong.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("not this one", wrong.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("--read-only", wrong.Error, StringComparison.Ordinal);
        Assert.Empty(MountBox.MountsBelow(box.Folder));
    }

    [SkippableFact]
    public void Info_and_check_need_no_passphrase_and_map_says_that_it_does()
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, _) = Make(box, "luks", "");
        using JsonDocument info = JsonDocument.Parse(Tool.Run(Tool.Imgmount, "info", "--json", image));
        Assert.True(info.RootElement.GetProperty("encrypted").GetBoolean());
        Assert.Contains("encrypted", Tool.Run(Tool.Imgmount, "info", image), StringComparison.Ordinal);
        Assert.Equal(0, Tool.Try(Tool.Imgmount, "check", image).ExitCode);
        Assert.Contains("passphrase", Tool.Try(Tool.Imgmount, "map", image).Error, StringComparison.Ordinal);
        Assert.Equal(0, Tool.Try(Tool.Imgmount, "map", "--passphrase-file", box["key"], image).ExitCode);
    }

    [SkippableFact]
    public void Amend_changes_the_passphrase()
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, byte[] content) = Make(box, "luks", "");
        File.WriteAllText(box["new"], "brand new");
        Tool.Run(
            Tool.Imgmount, "amend", "--passphrase-file", box["key"], "--object", $"secret,id=n,file={box["new"]}", "-o",
            "state=active,new-secret=n,pbkdf-force-iterations=1000", image);
        Tool.Run(
            Tool.Imgmount, "amend", "--passphrase-file", box["new"], "--object", $"secret,id=o,file={box["key"]}", "-o",
            "state=inactive,old-secret=o", image);
        Assert.NotEqual(0, box.TryMount(image, "--passphrase-file", box["key"]).ExitCode);
        MountedImage mount = box.Mount(image, "--passphrase-file", box["new"]);
        Assert.Equal(content, File.ReadAllBytes(mount.Disk));
        ToolResult last = Tool.Try(
            Tool.Imgmount, "amend", "--passphrase-file", box["new"], "-o", "state=inactive,keyslot=1", image);
        Assert.Equal(1, last.ExitCode); // It is mounted, and it would be the last one.
    }

    [SkippableTheory]
    [InlineData("luks", "key-secret=s,pbkdf-force-iterations=1000", "key-secret=s")]
    [InlineData("luks", "pbkdf-force-iterations=1000", "key-secret=s")]
    [InlineData("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.pbkdf-force-iterations=1000", "encrypt.key-secret=s")]
    public void Converting_to_an_encrypted_image_keeps_every_byte_zeroes_too(string format, string options, string open)
    {
        Needs.Mounting();
        using var box = new MountBox();
        var content = new byte[3 << 20];
        new Random(9).NextBytes(content.AsSpan(1 << 20, 700_000));
        File.WriteAllBytes(box["raw"], content);
        File.WriteAllText(box["key"], Passphrase);
        using (FileStream sparse = File.OpenWrite(box["raw"]))
        {
            sparse.SetLength(content.Length + (1 << 20)); // A hole at the end: known to be zero, not read.
        }

        string image = box[$"new.{format}"];
        string[] secrets = ["--object", $"secret,id=s,file={box["key"]}", "--passphrase-file", box["key"]];
        Tool.Run(
            Tool.Imgmount, ["convert", .. secrets, "-f", "raw", "-O", format, "-o", options, box["raw"], image]);
        Tool.Run("qemu-img", "convert", "--object", $"secret,id=s,file={box["key"]}", "--image-opts", "-O", "raw",
            $"driver={format},{open},file.filename={image}", box["flat"]);
        Assert.Equal(File.ReadAllBytes(box["raw"]), File.ReadAllBytes(box["flat"]));
        Tool.Run(Tool.Imgmount, ["convert", .. secrets, image, box["back"]]);
        Assert.Equal(File.ReadAllBytes(box["raw"]), File.ReadAllBytes(box["back"]));
    }

    [SkippableFact]
    public void Person_at_the_terminal_is_asked_and_what_is_typed_is_not_shown()
    {
        Needs.Mounting("script");
        using var box = new MountBox();
        (string image, byte[] content) = Make(box, "luks", "");
        Directory.CreateDirectory(box["point"]);

        // script(1) gives the command a terminal of its own.
        using System.Diagnostics.Process terminal = Tool.Start(
            "script", "-qec", $"{Tool.Imgmount} {image} {box["point"]} --read-only", "/dev/null");
        var shown = new System.Text.StringBuilder();
        while (!shown.ToString().Contains("Passphrase of", StringComparison.Ordinal))
        {
            int c = terminal.StandardOutput.Read();
            Assert.True(c >= 0, $"no prompt: {shown}");
            shown.Append((char)c);
        }

        terminal.StandardInput.Write(Passphrase + "\r");
        terminal.StandardInput.Flush();
        shown.Append(terminal.StandardOutput.ReadToEnd());
        Assert.True(terminal.WaitForExit(TimeSpan.FromSeconds(60)));
        Assert.True(MountBox.IsMounted(box["point"]), shown.ToString());
        Assert.Equal(content, File.ReadAllBytes(Path.Combine(box["point"], "disk.raw")));
        Assert.DoesNotContain(Passphrase, shown.ToString(), StringComparison.Ordinal);
        Tool.Run(Tool.Imgmount, "umount", box["point"]);
    }

    [SkippableFact]
    public void Secret_on_the_command_line_works_with_a_warning()
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, _) = Make(box, "luks", "");
        ToolResult result = Tool.Try(
            Tool.Imgmount, "map", "--object", $"secret,id=s,data={Passphrase}", "--image-opts",
            $"driver=luks,key-secret=s,file.filename={image}");
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("list of processes", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(Passphrase, result.Error + result.Output, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Secret_on_the_command_line_stays_with_the_command_that_was_given_it()
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, byte[] content) = Make(box, "luks", "");
        MountedImage mount = box.Mount(
            $"driver=luks,key-secret=s,file.filename={image}", "--image-opts", "--object", $"secret,id=s,data={Passphrase}",
            "--debug", "--log-file", box["log"]);
        Assert.Equal(content, File.ReadAllBytes(mount.Disk));
        AssertSecretIsNotIn(
            [
                File.ReadAllText($"/proc/{mount.ProcessId}/cmdline"), File.ReadAllText($"/proc/{mount.ProcessId}/environ"),
                File.ReadAllText("/proc/self/mountinfo"), File.ReadAllText(Path.Combine(mount.Point, ".imgmount/info.json")),
                File.Exists(box["log"]) ? File.ReadAllText(box["log"]) : "", Tool.Run(Tool.Imgmount, "list", "--json"),
            ],
            Passphrase);
        Tool.Run(Tool.Imgmount, "umount", mount.Point);
    }

    [SkippableTheory]
    [InlineData("luks", "", "file")]
    [InlineData("luks", "", "data")]
    [InlineData("qcow2", "encrypt.format=luks,encrypt.", "file")]
    public void Failed_unlocking_shows_no_secret_in_messages_or_log(string format, string prefix, string how)
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, _) = Make(box, format, prefix);
        const string Wrong = "wrong-frobozz-0815";
        File.WriteAllText(box["wrong"], Wrong);
        string key = format == "luks" ? "key-secret" : "encrypt.key-secret";
        string text = $"driver={format},{key}=s,file.filename={image}";
        ToolResult result = box.TryMount(
            text, "--image-opts", "--object", $"secret,id=s,{how}={(how == "file" ? box["wrong"] : Wrong)}", "--debug",
            "--log-file", box["log"]);
        Assert.Equal(1, result.ExitCode);
        string log = File.Exists(box["log"]) ? File.ReadAllText(box["log"]) : "";
        AssertSecretIsNotIn([result.Output, result.Error, log], Wrong, Passphrase);
        Assert.Empty(MountBox.MountsBelow(box.Folder));
    }

    [SkippableFact]
    public void No_command_shows_a_secret()
    {
        Needs.Mounting();
        using var box = new MountBox();
        (string image, _) = Make(box, "luks", "");
        const string Second = "second-frobozz-0815";
        File.WriteAllText(box["second"], Second);
        string[] objects =
        [
            "--object", $"secret,id=s,file={box["key"]}", "--object", $"secret,id=n,data={Second}",
        ];
        string source = $"driver=luks,key-secret=s,file.filename={image}";
        string[][] commands =
        [
            ["check", image],
            ["check", .. objects, "--image-opts", source],
            ["info", "--json", .. objects, "--image-opts", source],
            ["info", .. objects, "--image-opts", source],
            ["map", "--json", .. objects, "--image-opts", source],
            ["create", .. objects, "-f", "luks", "-o", $"key-secret=n,{Cheap}", box["made.luks"], "1M"],
            ["create", .. objects, "-f", "qcow2", "-o", $"encrypt.format=luks,encrypt.key-secret=n,encrypt.{Cheap}",
                box["made.qcow2"], "1M"],
            ["convert", .. objects, "-O", "luks", "-o", $"key-secret=n,{Cheap}", "--image-opts", source, box["other.luks"]],
            ["amend", .. objects, "-o", $"state=active,new-secret=n,{Cheap}", "--image-opts", source],
            ["amend", .. objects, "-o", "state=inactive,old-secret=s", "--image-opts", source],
        ];
        foreach (string[] command in commands)
        {
            ToolResult result = Tool.Try(Tool.Imgmount, command);
            Assert.True(result.ExitCode == 0, $"{string.Join(' ', command)}: {result}");
            AssertSecretIsNotIn([result.Output, result.Error], Passphrase, Second);
        }

        // And where they fail: a passphrase that opens nothing any more, and one in a place where none belongs.
        foreach (string[] command in (string[][])
            [["map", .. objects, "--image-opts", source], ["amend", .. objects, "-o", "state=active,new-secret=n", "--image-opts", source],
             ["map", "--object", $"secret,id=s,data={Second},nonsense={Passphrase}", image],
             ["map", "--object", $"secret,data={Second}", image],
             ["map", "--object", $"secret,id=s,data={Second},format=base64", image]])
        {
            ToolResult result = Tool.Try(Tool.Imgmount, command);
            Assert.NotEqual(0, result.ExitCode);
            AssertSecretIsNotIn([result.Output, result.Error], Passphrase, Second);
        }
    }

    private static void AssertSecretIsNotIn(string[] places, params string[] secrets) => Assert.All(
        places, text => Assert.All(secrets, secret => Assert.DoesNotContain(secret, text, StringComparison.Ordinal)));

    private static (string Image, byte[] Content) Make(MountBox box, string format, string prefix)
    {
        var content = new byte[256 << 10];
        new Random(7).NextBytes(content);
        File.WriteAllBytes(box["raw"], content);
        File.WriteAllText(box["key"], Passphrase);
        string image = box[$"disk.{format}"];
        string[] arguments =
        [
            "convert", "--object", $"secret,id=s,file={box["key"]}", "-f", "raw", "-O", format, "-o",
            $"{prefix}key-secret=s,{prefix[(prefix.LastIndexOf(',') + 1)..]}iter-time=10", box["raw"], image,
        ];
        ToolResult made = Tool.Try("qemu-img", arguments);
        for (int i = 0; i < 20 && made.Error.Contains("accurate CPU usage", StringComparison.Ordinal); i++)
        {
            made = Tool.Try("qemu-img", arguments); // It measures the machine, and gives up when that is busy.
        }

        Assert.True(made.ExitCode == 0, made.ToString());
        return (image, content);
    }
}
