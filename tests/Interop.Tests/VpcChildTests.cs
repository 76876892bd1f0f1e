using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Differencing VHDs. qemu takes one for a complete disk and reads zeroes where the parent has data; libvhdi knows better,
/// so it is the peer here.
/// </summary>
public sealed class VpcChildTests
{
    private const int Seed = 8181;
    private const int Group = 8 * 512;
    private const long Length = (5 << 20) + 1024;

    [SkippableFact]
    public async Task Child_that_we_write_reads_the_same_through_libvhdi_and_not_as_qemu_takes_it()
    {
        PeerTool.Require();
        Require.Tool("vhdimount");
        Require.Fuse();
        using var scratch = new Scratch();
        QemuImage parent = QemuImages.FlatTable(scratch, "vpc", "force_size=on", 64 << 10, Length, Seed);
        byte[] expected = File.ReadAllBytes(QemuImages.Flatten(parent, scratch["model"]));
        var random = new Random(Seed);
        string path = scratch["child.vhd"];
        var options = new OptionMap();
        options.Set("backing_file", Path.GetFileName(parent.Path));
        await new ImageMaker(TestGraph.Registry).CreateAsync("vpc", path, options, new CreateRequest());
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Empty(graph.Warnings);
            for (int i = 0; i < 40; i++)
            {
                // Eight sectors are a byte of the bitmap. libvhdi 20210425 reads zeroes where the last set bits of a
                // block are followed by clear ones in the same byte; other places are for the tests with hand-made disks.
                int at = random.Next((int)(Length / Group)) * Group;
                int count = Math.Min(random.Next(1, 30) * Group, (int)(Length / Group * Group) - at);
                TestPattern.Fill(expected.AsSpan(at, count), at, i);
                await graph.Root.WriteAsync(at, expected.AsMemory(at, count));
            }
        }

        byte[] theirs = ReadByLibvhdi(scratch, path);
        TestPattern.AssertEqual(expected, theirs, 0, $"libvhdi, seed {Seed}");
        await using Graph again = await TestGraph.OpenAsync(path);
        var ours = new byte[again.Root.Length];
        await again.Root.ReadAsync(0, ours);
        TestPattern.AssertEqual(expected, ours, 0, $"again, seed {Seed}");

        // What makes the test worth having: qemu, where it opens the child at all, reads something else.
        PeerResult qemu = PeerTool.TryImg("convert", "-f", "vpc", "-O", "raw", path, scratch["by-qemu"]);
        Assert.False(
            qemu.ExitCode == 0 && File.ReadAllBytes(scratch["by-qemu"]).AsSpan().SequenceEqual(expected),
            "qemu reads differencing disks now: compare with it everywhere");
    }

    private static byte[] ReadByLibvhdi(Scratch scratch, string path)
    {
        string mountPoint = Directory.CreateDirectory(scratch["mnt"]).FullName;
        ToolResult mounted = Qemu.Run("vhdimount", path, mountPoint);
        Skip.IfNot(mounted.ExitCode == 0, $"vhdimount cannot mount here: {mounted.All}");
        try
        {
            return File.ReadAllBytes(Directory.GetFiles(mountPoint).Order(StringComparer.Ordinal).Last());
        }
        finally
        {
            Qemu.Succeed("umount", mountPoint);
        }
    }
}
