using System.Globalization;
using System.Text.RegularExpressions;
using ImageMount.Mounting.Partitions;

namespace ImageMount.Mounting.Tests.Partitions;

/// <summary>Tables made by sfdisk and parted, and what they themselves say is in them.</summary>
public sealed class PeerTests
{
    private const long Length = 64 << 20;

    [SkippableTheory]
    [InlineData("label: dos\n,8M,83,*\n,8M,c\n,,5\n,4M,83\n,4M,82\n,,83\n")]
    [InlineData("label: dos\n1 : size=8M, type=5\n2 : size=8M, type=83, bootable\n5 : size=1M\n6 : size=2M\n")]
    [InlineData("label: gpt\n,8M,L,*\n,8M,U\n,,S\n")]
    [InlineData("label: gpt\ntable-length: 8\nstart=2048,size=100,name=\"a b\"\nstart=5000,size=1,name=b\n")]
    [InlineData("label: gpt\ntable-length: 1024\n,1M\n,1M\n,1M\n")]
    public async Task What_sfdisk_makes_is_read_as_sfdisk_reads_it(string script)
    {
        Require.Tool("sfdisk");
        using var folder = new TempDir();
        string path = folder.WriteSparse("disk", Length);
        string scriptFile = folder.Write("script", System.Text.Encoding.UTF8.GetBytes(script));
        Qemu.Succeed("sh", "-c", $"sfdisk -q --no-reread '{path}' < '{scriptFile}'");
        string dump = Qemu.Succeed("sfdisk", "--dump", path);
        var expected = Regex
            .Matches(dump, @"disk(\d+) : start=\s*(\d+), size=\s*(\d+), type=([^,\n]+)")
            .Select(
                m => (Number: Number(m, 1), Start: Number(m, 2), Size: Number(m, 3), Type: m.Groups[4].Value.Trim()))
            .Where(p => p.Type is not ("5" or "f")) // the containers of logical partitions have no window
            .Select(p => (p.Number, p.Start * 512, p.Size * 512))
            .ToList();
        Assert.NotEmpty(expected);

        await using Graph graph = await TestGraph.OpenAsync(
            $"json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"file\",\"filename\":\"{path}\"}}}}");
        PartitionTable table = await PartitionScanner.ScanAsync(graph.Root);

        Assert.Empty(table.Warnings);
        Assert.Equal(expected, table.Partitions.Select(p => ((long)p.Number, p.Offset, p.Size)));
    }

    [SkippableFact]
    public async Task Parted_names_and_units_are_understood()
    {
        Require.Tool("parted");
        using var folder = new TempDir();
        string path = folder.WriteSparse("disk", Length);
        Qemu.Succeed(
            "parted", "-s", path, "mklabel", "gpt", "mkpart", "root-fs", "ext4", "1MiB", "20MiB", "mkpart", "daten",
            "fat32", "20MiB", "100%", "set", "1", "legacy_boot", "on");

        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=raw,file.filename={path}");
        PartitionTable table = await PartitionScanner.ScanAsync(graph.Root);

        Assert.Equal(
            [(1, "root-fs", true, 1L << 20), (2, "daten", false, 20L << 20)],
            table.Partitions.Select(p => (p.Number, p.Name, p.IsBootable, p.Offset)));
    }

    [Fact]
    public async Task Random_bytes_in_a_table_never_throw()
    {
        int seed = Environment.TickCount;
        Console.WriteLine($"seed {seed}");
        var random = new Random(seed);
        for (int round = 0; round < 3000; round++)
        {
            DiskBuilder disk = round % 2 == 0
                ? GptTests.Make(512, 16, 128)
                : new DiskBuilder(400)
                    .Entry(0, 0, 0x05, 1, 300).Entry(1, 0, 0x83, 1, 1).Entry(1, 1, 5, 2, 9).Sign().Sign(1);
            int changes = random.Next(1, 20);
            for (int i = 0; i < changes; i++)
            {
                int area = random.Next(4) switch { 0 => 440, 1 => 512, 2 => 1024, _ => disk.Bytes.Length - 1024 };
                disk.Bytes[area + random.Next(512)] = (byte)random.Next(256);
            }

            PartitionTable table = await disk.ScanAsync();
            Assert.All(table.Partitions, p => Assert.True(
                p.Offset >= 0 && p.Size > 0 && p.End <= disk.Bytes.Length, $"seed {seed}, round {round}: {p}"));
        }
    }

    private static long Number(Match match, int group) =>
        long.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);
}
