using System.Diagnostics;
using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>Real servers that are killed or stopped, and what becomes of ssh.</summary>
public sealed class SshFaultTests : SshTestBase
{
    [SkippableFact]
    public async Task Connections_that_are_killed_in_the_middle_lose_nothing()
    {
        using var server = new SshServer();
        byte[] model = MakeContent();
        string file = Dir.Write("disk.raw", model);
        await using (Graph graph = await OpenAsync(server.Uri(file), server.Options, writable: true))
        {
            const int part = 20_000;
            for (int round = 0; round < 5; round++)
            {
                Task[] writes = [.. Enumerable.Range(0, 30).Select(i =>
                {
                    int at = (i * part) + round;
                    TestPattern.Fill(model.AsSpan(at, part - 10), at, (round * 100) + i);
                    return graph.Root.WriteAsync(at, model.AsMemory(at, part - 10)).AsTask();
                })];
                if (round > 0)
                {
                    await Task.WhenAny(writes).WaitAsync(Limit);
                    Assert.NotEqual(0, server.KillConnections());
                }

                await Task.WhenAll(writes).WaitAsync(Limit);
            }

            await AssertContentAsync(graph.Root, model, "read back");
        }

        Assert.Equal(model, await File.ReadAllBytesAsync(file));
    }

    [SkippableFact]
    public async Task A_stopped_server_times_out_and_is_used_again_when_it_goes_on()
    {
        using var server = new SshServer();
        byte[] content = MakeContent();
        string file = Dir.Write("disk.raw", content);
        await using Graph graph = await OpenAsync(
            server.Uri(file), [.. server.Options, ("timeout", "1"), ("reconnect-delay", "1")]);
        server.Stop();
        await Assert.ThrowsAsync<BlockException>(
            () => graph.Root.ReadAsync(0, new byte[512]).AsTask().WaitAsync(Limit));
        server.Continue();
        Assert.True(
            SpinWait.SpinUntil(() => graph.Root.ReadAsync(0, new byte[512]).AsTask().ContinueWith(
                task => task.IsCompletedSuccessfully, TaskScheduler.Default).Result, Limit),
            "it did not come back");
        await AssertContentAsync(graph.Root, content, "after it went on");
    }

    [SkippableFact]
    public async Task A_stopped_server_does_not_hold_up_closing_and_ssh_ends()
    {
        using var server = new SshServer();
        string file = Dir.Write("disk.raw", MakeContent());
        Graph graph = await OpenAsync(server.Uri(file), [.. server.Options, ("timeout", "0")]);
        int ssh = Assert.Single(Clients(server.Port));

        // Its own session: the terminal's Ctrl-C is not for it.
        string stat = await File.ReadAllTextAsync($"/proc/{ssh}/stat");
        Assert.Equal(ssh.ToString(CultureInfo.InvariantCulture), stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[3]);
        server.Stop();
        graph.StopWaiting(TimeSpan.FromSeconds(1));
        await graph.CloseAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(10));
        Assert.True(SpinWait.SpinUntil(() => Clients(server.Port).Length == 0, Limit), "ssh is still there");
    }

    [SkippableFact]
    public async Task A_password_comes_from_a_secret()
    {
        using var server = new PasswordSshServer(Dir);
        byte[] content = MakeContent();
        string file = Dir.Write("disk.raw", content);
        using var secrets = new Core.Secrets.SecretStore();
        secrets.Add("right", new Core.Secrets.Secret("se cr%et"u8));
        secrets.Add("wrong", new Core.Secrets.Secret("secret"u8));
        string uri = $"ssh://alice@127.0.0.1:{server.Port}{file}?host_key_check=no";
        await AssertRefusedAsync(
            BlockErrorKind.PermissionDenied, "does not let",
            () => OpenAsync(uri, [("config", "none"), ("password-secret", "wrong")], secrets: secrets));
        await using Graph graph = await OpenAsync(
            uri, [("config", "none"), ("password-secret", "right")], writable: true, secrets: secrets);
        await AssertContentAsync(graph.Root, content, "by password");
        TestPattern.Fill(content.AsSpan(100, 300_000), 100, 4);
        await graph.Root.WriteAsync(100, content.AsMemory(100, 300_000)).AsTask().WaitAsync(Limit);
        await graph.Root.FlushAsync();
        Assert.Equal(content, await File.ReadAllBytesAsync(file));
        Assert.DoesNotContain(Clients(server.Port), pid => CommandLine(pid).Contains("se cr", StringComparison.Ordinal));
    }

    [SkippableFact]
    public async Task Images_are_made_with_a_password()
    {
        using var server = new PasswordSshServer(Dir);
        using var secrets = new Core.Secrets.SecretStore();
        secrets.Add("pw", new Core.Secrets.Secret("se cr%et"u8));
        string parent = Dir.Write("base.raw", MakeContent(299_008));
        string target = Target("new.qcow2", "pw");
        var request = new CreateRequest { Flags = new OpenFlags { Writable = true, Secrets = secrets } };
        var options = new Core.Options.OptionMap();
        options.Set("backing_file", "base.raw");
        options.Set("backing_fmt", "raw");
        options.Set("size", "299008");
        await new ImageMaker(TestGraph.Registry)
            .CreateAsync("qcow2", target, options, request with { CheckParent = false }).AsTask().WaitAsync(Limit);
        Qemu.Img("check", "-q", "-f", "qcow2", Dir.File("new.qcow2"));
        Qemu.Img("compare", "-q", "-f", "qcow2", "-F", "raw", Dir.File("new.qcow2"), parent);

        await using (Graph source = await TestGraph.OpenAsync(parent))
        {
            options = new Core.Options.OptionMap();
            options.Set("size", "299008");
            await new ImageMaker(TestGraph.Registry).CreateAndCopyAsync(
                "qcow2", Target("copy.qcow2", "pw"), options, source.Root, request, null)
                .AsTask().WaitAsync(Limit);
            Qemu.Img("compare", "-q", "-f", "qcow2", "-F", "raw", Dir.File("copy.qcow2"), parent);

            // What cannot be completed is removed again, by the same password.
            options = new Core.Options.OptionMap();
            options.Set("size", "1000");
            await AssertRefusedAsync(BlockErrorKind.InvalidArgument, "smaller", async () => await new ImageMaker(TestGraph.Registry)
                .CreateAndCopyAsync("raw", Target("short.raw", "pw"), options, source.Root, request, null));
            Assert.False(File.Exists(Dir.File("short.raw")));
        }

        await AssertRefusedAsync(BlockErrorKind.InvalidArgument, "without its format", async () =>
            await new ImageMaker(TestGraph.Registry).CreateAsync(
                "raw", "json:{\"driver\":\"qcow2\",\"file\":\"x\"}", options, request));

        string Target(string name, string secret) =>
            $"json:{{\"driver\":\"ssh\",\"host\":\"127.0.0.1\",\"port\":{server.Port},\"user\":\"alice\","
            + $"\"path\":\"{Dir.File(name)}\",\"host_key_check\":\"no\",\"config\":\"none\",\"password-secret\":\"{secret}\"}}";
    }

    /// <summary>Processes of ssh that go to a port.</summary>
    private static int[] Clients(int port) => [.. Process.GetProcessesByName("ssh").Select(process => process.Id)
        .Where(pid => CommandLine(pid).Contains($"-p\0{port}\0", StringComparison.Ordinal))];

    private static string CommandLine(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline");
        }
        catch (IOException)
        {
            return ""; // It has ended meanwhile.
        }
    }
}
