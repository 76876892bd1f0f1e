using System.Text.Json;
using ImageMount.Mount.Tests.Support;
using ImageMount.TestSupport.Servers;
using Xunit;
using TempDir = ImageMount.TestSupport.TempDir;

namespace ImageMount.Mount.Tests;

/// <summary>`--remote-cache` and `--prefetch`, with real servers and several processes.</summary>
public class RemoteCacheTests
{
    private const int Size = 6 << 20;

    [SkippableFact]
    public void A_qcow2_over_http_with_its_parent_over_https_is_there_while_the_server_is_away()
    {
        Needs.Mounting("nginx");
        using var box = new MountBox();
        using var keys = new TempDir();
        var certificates = new TestCertificates(keys);
        byte[] content = DiskContent.Make(21, Size);
        File.WriteAllBytes(box["base.raw"], content);
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", box["top.qcow2"], $"{Size}");
        Tool.Run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", box["base.raw"], "-F", "raw", box["top.qcow2"]);
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 77 1m 300k", box["top.qcow2"]);
        content.AsSpan(1 << 20, 300 << 10).Fill(77);
        Age(box["base.raw"], box["top.qcow2"]);
        using var server = new WebServer(box.Folder, certificates);
        string login = "alice:secret@";
        string source = $"driver=qcow2,file.driver=http,file.url={server.Url("auth/top.qcow2?sig=geheim", login)},"
            + $"file.reconnect-delay=0,backing.driver=raw,backing.file.driver=https,"
            + $"backing.file.url={server.TlsUrl("base.raw")},backing.file.cacert={certificates.Authority},"
            + "backing.file.reconnect-delay=0";
        string[] options = ["--image-opts", "--allow-external", "--read-only", "--remote-cache", box["cache"]];

        MountedImage mount = box.Mount(source, [.. options, "--prefetch"]);
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "cold");
        Until(() => ListOf(mount).Contains("prefetch complete", StringComparison.Ordinal));
        mount.Unmount();
        int requests = server.Requests.Length;

        mount = box.Mount(source, options);
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "warm");
        mount.Unmount();
        string[] more = server.Requests[requests..];
        Assert.True(more.Length <= 3, $"more than looking at the two files:\n{string.Join('\n', more)}");

        server.Process.Kill();
        ToolResult result = box.TryMountAt(source, box["away"], out _, options);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("ETag", result.Error, StringComparison.Ordinal);
        DiskContent.AssertEqual(content, File.ReadAllBytes(Path.Join(box["away"], "disk.raw")), "away");
        Tool.Run(Tool.Imgmount, "umount", box["away"]);

        string kept = string.Concat(Directory.GetFiles(box["cache"]).Select(file => file + File.ReadAllText(file)));
        Assert.DoesNotContain("secret", kept + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("geheim", kept + result.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void What_is_not_there_while_the_server_is_away_is_an_error()
    {
        Needs.Mounting("nginx");
        using var box = new MountBox();
        byte[] content = DiskContent.Make(22, Size);
        File.WriteAllBytes(box["disk.raw"], content);
        Age(box["disk.raw"]);
        using var server = new WebServer(box.Folder);
        string source = $"driver=raw,file.driver=http,file.url={server.Url("disk.raw")},file.reconnect-delay=0";
        string[] options = ["--image-opts", "--read-only", "--cache", "none", "--remote-cache", $"{box["cache"]},size=64M"];
        MountedImage mount = box.Mount(source, options);
        DiskContent.AssertEqual(content.AsSpan(0, 65536), Read(mount.Disk, 0, 65536), "cold");
        mount.Unmount();
        server.Process.Kill();

        string log = box["log"];
        mount = box.Mount(source, [.. options, "--log-file", log]);
        DiskContent.AssertEqual(content.AsSpan(0, 65536), Read(mount.Disk, 0, 65536), "away");
        Assert.Throws<IOException>(() => Read(mount.Disk, Size / 2, 4096));
        Assert.Contains("not in the remote cache", File.ReadAllText(log), StringComparison.Ordinal);
        mount.Unmount();

        ToolResult writable = box.TryMount(source, [.. options.Where(option => option != "--read-only")]);
        Assert.Equal(1, writable.ExitCode);
        Assert.Contains("--read-only", writable.Error, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Two_processes_at_once_fill_one_cache_and_both_are_right()
    {
        Needs.Mounting("nginx");
        using var box = new MountBox();
        byte[] content = DiskContent.Make(23, Size);
        File.WriteAllBytes(box["disk.raw"], content);
        Age(box["disk.raw"]);
        using var server = new WebServer(box.Folder);
        string[] options = ["--read-only", "--cache", "none", "--remote-cache", box["cache"]];
        string url = server.Url("disk.raw");
        MountedImage[] mounts =
            [box.Mount(url, options), box.Mount(url, options), box.Mount(url, [.. options, "--prefetch"])];
        Parallel.For(0, 24, i =>
        {
            int offset = new Random(i).Next(Size - 300_000);
            DiskContent.AssertEqual(
                content.AsSpan(offset, 300_000), Read(mounts[i % 3].Disk, offset, 300_000), $"seed {i}");
        });
        Until(() => ListOf(mounts[2]).Contains("prefetch complete", StringComparison.Ordinal));
        long before = Fetched(mounts[1]);
        DiskContent.AssertEqual(content, Read(mounts[1].Disk, 0, Size), "what another process has fetched");
        Assert.Equal(before, Fetched(mounts[1]));
        Assert.Single(Directory.GetFiles(box["cache"]));
        foreach (MountedImage mount in mounts)
        {
            mount.Unmount();
        }
    }

    [SkippableFact]
    public void Another_version_on_the_server_is_shown_from_its_first_byte()
    {
        Needs.Mounting("nginx");
        using var box = new MountBox();
        using var server = new WebServer(box.Folder);
        for (int version = 0; version < 2; version++)
        {
            byte[] content = DiskContent.Make(30 + version, Size);
            File.WriteAllBytes(box["disk.raw"], content);
            File.SetLastWriteTimeUtc(box["disk.raw"], DateTime.UtcNow.AddHours(-10 + version));
            for (int round = 0; round < 2; round++)
            {
                MountedImage mount = box.Mount(server.Url("disk.raw"), "--remote-cache", box["cache"]);
                DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), $"version {version}, round {round}");
                mount.Unmount();
            }

            Assert.Single(Directory.GetFiles(box["cache"]));
        }
    }

    [SkippableFact]
    public void A_full_disk_below_the_cache_is_told_once_and_does_no_harm()
    {
        Needs.Mounting("nginx", "mount");
        using var box = new MountBox();
        byte[] content = new byte[Size];
        new Random(24).NextBytes(content);
        File.WriteAllBytes(box["disk.raw"], content);
        Age(box["disk.raw"]);
        using var server = new WebServer(box.Folder);
        string small = Directory.CreateDirectory(box["small"]).FullName;
        Tool.Run("mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", small);
        string log = box["log"];
        MountedImage mount = box.Mount(
            server.Url("disk.raw"), "--cache", "none", "--remote-cache", small, "--prefetch", "--log-file", log);
        for (int round = 0; round < 2; round++)
        {
            DiskContent.AssertEqual(content, Read(mount.Disk, 0, Size), $"round {round}");
        }

        Assert.Single(File.ReadAllLines(log), line => line.Contains("cannot be written", StringComparison.Ordinal));
        mount.Unmount();
        mount = box.Mount(server.Url("disk.raw"), "--remote-cache", small);
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "again");
        mount.Unmount();
        Tool.Run("umount", small);
    }

    [SkippableFact]
    public void Unmounting_ends_a_prefetch_whose_server_does_not_answer()
    {
        Needs.Mounting("nginx");
        using var box = new MountBox();
        using (FileStream file = File.Create(box["disk.raw"]))
        {
            file.SetLength(64 << 20);
        }

        Age(box["disk.raw"]);
        using var server = new WebServer(box.Folder);
        MountedImage mount = box.Mount(server.Url("slow/disk.raw"), "--remote-cache", box["cache"], "--prefetch");
        Assert.Contains("prefetch 0 %", ListOf(mount), StringComparison.Ordinal);
        server.Process.Stop();
        try
        {
            mount.Unmount();
        }
        finally
        {
            server.Process.Continue();
        }
    }

    [SkippableFact]
    public void What_makes_no_sense_is_told()
    {
        Needs.Mounting();
        using var box = new MountBox();
        File.WriteAllBytes(box["disk.raw"], new byte[4096]);
        AssertRefused(2, "--remote-cache", "--prefetch");
        AssertRefused(2, "'size'", "--remote-cache", box["cache"] + ",sise=3G");
        AssertRefused(2, "too little", "--remote-cache", box["cache"] + ",size=3k");
        AssertRefused(1, "cannot be the remote cache", "--remote-cache", box["disk.raw"]);
        MountedImage mount = box.Mount(box["disk.raw"], "--remote-cache", box["cache"], "--prefetch");
        mount.Unmount();

        void AssertRefused(int code, string words, params string[] options)
        {
            ToolResult result = box.TryMount(box["disk.raw"], options);
            Assert.Equal(code, result.ExitCode);
            Assert.Contains(words, result.Error, StringComparison.Ordinal);
        }
    }

    /// <summary>A time of modification that tells the state of a file.</summary>
    private static void Age(params string[] files)
    {
        foreach (string file in files)
        {
            File.SetLastWriteTimeUtc(file, DateTime.UtcNow.AddHours(-1));
        }
    }

    private static byte[] Read(string path, long offset, int count)
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path);
        var found = new byte[count];
        for (int done = 0; done < count;)
        {
            int step = RandomAccess.Read(file, found.AsSpan(done), offset + done);
            Assert.True(step > 0, "the disk ends too early");
            done += step;
        }

        return found;
    }

    private static long Fetched(MountedImage mount)
    {
        using JsonDocument stats = JsonDocument.Parse(File.ReadAllText(mount[".imgmount/stats.json"]));
        return stats.RootElement.GetProperty("remote-caches")[0].GetProperty("fetched-bytes").GetInt64();
    }

    private static string ListOf(MountedImage mount) => string.Concat(
        Tool.Run(Tool.Imgmount, "list").Split('\n').Where(line => line.Contains(mount.Point, StringComparison.Ordinal)));

    private static void Until(Func<bool> condition)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(120), "it does not happen");
        }
    }
}
