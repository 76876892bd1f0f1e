using System.Diagnostics;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>With the real sshd and the real ssh: reading, writing, keys, host keys.</summary>
public sealed class SshRealServerTests : SshTestBase
{
    [SkippableFact]
    public async Task A_file_reads_as_it_is_in_any_pieces()
    {
        using var server = new SshServer();
        byte[] content = MakeContent(5_000_001);
        string file = Dir.Write("disk.raw", content);
        await using Graph graph = await OpenAsync(server.Uri(file), server.Options);
        await AssertContentAsync(graph.Root, content, "in one");
        var random = new Random(7);
        await Task.WhenAll(Enumerable.Range(0, 200).Select(async _ =>
        {
            int at;
            int count;
            lock (random)
            {
                at = random.Next(content.Length - 1);
                count = Math.Min(random.Next(1, 300_000), content.Length - at);
            }

            var found = new byte[count];
            await graph.Root.ReadAsync(at, found);
            TestPattern.AssertEqual(content.AsSpan(at, count), found, at, "seed 7");
        })).WaitAsync(Limit);
    }

    [SkippableFact]
    public async Task A_qcow2_with_a_backing_file_elsewhere_is_identical()
    {
        using var server = new SshServer();
        string raw = Dir.Write("base.raw", MakeContent(3 << 20));
        string top = Dir.File("top.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", top);
        Qemu.Io("qcow2", top, "write -P 7 65536 300k", "write -P 9 1m 64k");
        string flat = Dir.File("flat.raw");
        Qemu.Img("convert", "-O", "raw", top, flat);
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=qcow2,file.driver=ssh,file.host=127.0.0.1,file.port={server.Port},file.path={top},"
            + $"file.config={server.ClientConfig},file.identity={server.Identity},"
            + $"backing.driver=raw,backing.file.driver=file,backing.file.filename={raw}");
        await AssertContentAsync(graph.Root, await File.ReadAllBytesAsync(flat), "qcow2 over ssh");
    }

    [SkippableFact]
    public async Task Writes_growing_and_cutting_off_reach_the_file()
    {
        using var server = new SshServer();
        byte[] content = MakeContent();
        string file = Dir.Write("disk.raw", content);
        await using (Graph graph = await OpenAsync(server.Uri(file), server.Options, writable: true))
        {
            TestPattern.Fill(content.AsSpan(1, 600_000), 1, 5);
            await graph.Root.WriteAsync(1, content.AsMemory(1, 600_000)).AsTask().WaitAsync(Limit);
            await graph.Root.FlushAsync();
            Assert.Equal(content, await File.ReadAllBytesAsync(file));
            Assert.True(await graph.Root.TryResizeAsync(900_000));
            Array.Resize(ref content, 900_000);
            TestPattern.Fill(content.AsSpan(850_000, 50_000), 850_000, 6);
            await graph.Root.WriteAsync(850_000, content.AsMemory(850_000, 50_000));
            await AssertContentAsync(graph.Root, content, "grown");
            Assert.True(await graph.Root.TryResizeAsync(880_000));
            Array.Resize(ref content, 880_000);
            await AssertContentAsync(graph.Root, content, "cut off");
        }

        Assert.Equal(content, await File.ReadAllBytesAsync(file));
    }

    [SkippableFact]
    public async Task Images_are_made_and_removed_on_the_server()
    {
        using var server = new SshServer();
        string file = Dir.File("new.raw");
        BlockDriver driver = TestGraph.Registry.Get("ssh");
        using var secrets = new Core.Secrets.SecretStore();
        var options = new Protocols.Ssh.SshOptions
        {
            Host = "127.0.0.1",
            Port = server.Port,
            Path = file,
            Config = server.ClientConfig,
            Identity = server.Identity,
        };
        Assert.True(await driver.CreateFileAsync(options, secrets, CancellationToken.None));
        Assert.Equal(0, new FileInfo(file).Length);
        await File.WriteAllTextAsync(file, "kept");
        Assert.False(await driver.CreateFileAsync(options, secrets, CancellationToken.None));
        Assert.Equal("kept", await File.ReadAllTextAsync(file));
        await driver.DeleteFileAsync(options, secrets, CancellationToken.None);
        Assert.False(File.Exists(file));
        await driver.DeleteFileAsync(options, secrets, CancellationToken.None);
    }

    [SkippableFact]
    public async Task Host_keys_are_checked()
    {
        using var server = new SshServer();
        string file = Dir.Write("disk.raw", MakeContent());
        string uri = server.Uri(file);
        string right = server.HostKeySha256;
        string wrong = (right[0] == '0' ? "1" : "0") + right[1..];
        server.WriteClient(null); // Nobody is known from here on.
        foreach (string check in (string[])[$"sha256:{right}", $"md5:{server.HostKeyMd5}", "no"])
        {
            await using Graph graph = await OpenAsync($"{uri}?host_key_check={check}", server.Options);
            Assert.Equal(700_001, graph.Root.Length);
        }

        await using (Graph graph = await OpenAsync(
            uri,
            [.. server.Options, ("host-key-check.mode", "hash"), ("host-key-check.type", "sha256"),
                ("host-key-check.hash", right)]))
        {
            Assert.Equal(700_001, graph.Root.Length);
        }

        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "digest", () => OpenAsync($"{uri}?host_key_check=sha256:{wrong}", server.Options));
        await AssertRefusedAsync(BlockErrorKind.PermissionDenied, "not known", () => OpenAsync(uri, server.Options));

        // Another key is known: not even the user's own carelessness lets that through.
        server.WriteClient("ssh-ed25519 " + File.ReadAllText(server.Identity + ".pub").Split(' ')[1]);
        await File.AppendAllTextAsync(server.ClientConfig, "StrictHostKeyChecking no\nNoHostAuthenticationForLocalhost yes\n");
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "not the one that is known", () => OpenAsync(uri, server.Options));
    }

    [SkippableFact]
    public async Task What_is_wrong_is_told()
    {
        using var server = new SshServer();
        string file = Dir.Write("disk.raw", MakeContent());
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "no such file", () => OpenAsync(server.Uri(file + "x"), server.Options));
        await AssertRefusedAsync(
            BlockErrorKind.InvalidArgument, "regular file", () => OpenAsync(server.Uri(Dir.Path), server.Options));
        string other = Dir.File("other");
        Qemu.Succeed("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other);
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "does not let this user in",
            () => OpenAsync(server.Uri(file), [server.Options[0], ("identity", other)]));
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "nobody listens",
            () => OpenAsync($"ssh://127.0.0.1:{SshServer.FreePort()}{file}", server.Options));
        await AssertRefusedAsync(
            BlockErrorKind.NotFound, "no such host", () => OpenAsync($"ssh://no.such.invalid{file}", server.Options));
    }

    [SkippableFact]
    public async Task A_key_with_a_passphrase_opens_the_door()
    {
        using var server = new SshServer();
        string file = Dir.Write("disk.raw", MakeContent());
        Qemu.Succeed("ssh-keygen", "-q", "-p", "-P", "", "-N", "se cret'$x", "-f", server.Identity);
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "does not let", () => OpenAsync(server.Uri(file), server.Options));
        using var secrets = new SecretStore();
        secrets.Add("right", new Secret(Encoding.UTF8.GetBytes("se cret'$x")));
        secrets.Add("wrong", new Secret("other"u8));
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "does not let",
            () => OpenAsync(server.Uri(file), [.. server.Options, ("identity-secret", "wrong")], secrets: secrets));
        await using (Graph graph = await OpenAsync(
            server.Uri(file), [.. server.Options, ("identity-secret", "right")], secrets: secrets))
        {
            await AssertContentAsync(graph.Root, MakeContent(), "with the passphrase");
        }

        Assert.Empty(Directory.GetDirectories(Path.GetTempPath(), "imgmount-ssh-*"));
    }

    [SkippableFact]
    public async Task An_agent_opens_the_door()
    {
        using var server = new SshServer();
        string file = Dir.Write("disk.raw", MakeContent());
        Require.Tool("ssh-agent");
        string socket = Dir.File("agent.sock");
        using Process agent = Process.Start(new ProcessStartInfo(Require.FindTool("ssh-agent")!)
        {
            ArgumentList = { "-D", "-a", socket },
            RedirectStandardOutput = true,
        })!;
        try
        {
            Assert.True(SpinWait.SpinUntil(() => File.Exists(socket), Limit));
            Qemu.Succeed("env", $"SSH_AUTH_SOCK={socket}", "ssh-add", "-q", server.Identity);
            string config = Dir.File("config");
            await File.WriteAllTextAsync(
                config, $"IdentityAgent {socket}\n" + await File.ReadAllTextAsync(server.ClientConfig));
            await using Graph graph = await OpenAsync(server.Uri(file), [("config", config)]);
            await AssertContentAsync(graph.Root, MakeContent(), "with the agent");
        }
        finally
        {
            agent.Kill();
            await agent.WaitForExitAsync();
        }
    }

    [SkippableFact]
    public async Task A_server_without_sftp_or_with_a_chatty_one_is_told()
    {
        string file = Dir.Write("disk.raw", MakeContent());
        using (var chatty = new SshServer("/bin/echo Welcome to this server, dear user"))
        {
            await AssertRefusedAsync(
                BlockErrorKind.InvalidData, "sends text", () => OpenAsync(chatty.Uri(file), chatty.Options));
        }

        using var none = new SshServer("/bin/false");
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => OpenAsync(none.Uri(file), none.Options));
        Assert.Equal(BlockErrorKind.IoError, e.Kind);
    }
}
