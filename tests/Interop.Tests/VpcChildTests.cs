using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
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
        PeerMount.Require("vhdimount");
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

        byte[] theirs = PeerMount.Read("vhdimount", scratch, path);
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

    [SkippableTheory]
    [InlineData("", Length, 1)]
    [InlineData("", (4 << 20), 2)]
    [InlineData("subformat=fixed,", (4 << 20) + 512, 3)]
    [InlineData("subformat=fixed,", Length, 4)]
    public async Task Child_and_grandchild_written_at_any_byte_are_what_the_specification_says(
        string parentOptions, long length, int seed)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage parent = QemuImages.FlatTable(
            scratch, "vpc", parentOptions + "force_size=on", 64 << 10, length, Seed + seed);
        byte[] expected = File.ReadAllBytes(QemuImages.Flatten(parent, scratch["model"]));
        List<byte[]> chain = [File.ReadAllBytes(parent.Path)];
        TestPattern.AssertEqual(expected, VhdReader.Read(chain), 0, "the reader of this test, against qemu");
        var random = new Random(seed);
        string below = parent.Path;
        foreach (string name in (string[])["child.vhd", "grandchild.vhd"])
        {
            string path = scratch[name];
            await new ImageMaker(TestGraph.Registry).CreateAsync(
                "vpc", path, OptionSyntax.ParsePairs($"backing_file={Path.GetFileName(below)}"), new CreateRequest());
            byte[] before = File.ReadAllBytes(below);
            await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
            {
                for (int i = 0; i < 60; i++)
                {
                    int at = random.Next((int)length);
                    int count = Math.Min(random.Next(1, i % 3 == 0 ? 200_000 : 3000), (int)length - at);
                    byte[] bytes = i % 7 == 0 ? new byte[count] : TestPattern.Make(count, at, (seed * 100) + i);
                    bytes.CopyTo(expected, at);
                    if (i % 14 == 0)
                    {
                        await graph.Root.ZeroAsync(at, count, ZeroFlags.MayUnmap);
                    }
                    else
                    {
                        await graph.Root.WriteAsync(at, bytes);
                    }
                }
            }

            Assert.True(before.AsSpan().SequenceEqual(File.ReadAllBytes(below)), $"{name} changed its parent");
            chain.Add(File.ReadAllBytes(path));
            TestPattern.AssertEqual(expected, VhdReader.Read(chain), 0, $"{name} by the specification, seed {seed}");
            await using Graph again = await TestGraph.OpenAsync(path);
            Assert.Empty(again.Warnings);
            var ours = new byte[again.Root.Length];
            await again.Root.ReadAsync(0, ours);
            TestPattern.AssertEqual(expected, ours, 0, $"{name} by us, seed {seed}");
            CheckReport report = await ((ICheckable)again.Image.Device).CheckAsync(CancellationToken.None);
            Assert.Equal((0L, 0L, 0L), (report.Corruptions, report.Leaks, report.CheckErrors));
            below = path;
        }
    }
}
