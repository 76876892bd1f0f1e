using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>Random operations compared with a byte array, over the layouts, with and without a parent.</summary>
public sealed class Qcow2ModelTests
{
    public static TheoryData<string, bool, int> Cases()
    {
        var cases = new TheoryData<string, bool, int>();
        foreach (string layout in Qcow2Images.Layouts.Keys)
        {
            foreach (bool hasParent in (bool[])[false, true])
            {
                cases.Add(layout, hasParent, 1);
                cases.Add(layout, hasParent, 2);
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Random_operations_match_a_byte_array(string layout, bool hasParent, int seed)
    {
        using var dir = new TempDir();
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        int size = options.ClusterSize <= 4096 ? 600_000 / 512 * 512 : options.ClusterSize * 9 + 512 * 5;
        byte[] content = new byte[size];
        OptionMap? more = null;
        if (hasParent)
        {
            // Shorter than the disk, and not at a unit's end.
            byte[] parent = TestPattern.Make((size * 2 / 3) + 700, 0, seed);
            parent.CopyTo(content, 0);
            more = Qcow2Images.WithParent(dir.Write("parent.raw", parent));
        }

        byte[] empty = await Qcow2Images.CreateAsync(options, size);
        await new ModelTest
        {
            Seed = seed,
            Steps = 220,
            Initial = content,
            Unit = options.ClusterSize,
            Largest = Math.Min(size, Math.Max(300 << 10, options.ClusterSize * 2)),
            ResizeGranularity = 512,
            CreateAsync = () =>
            {
                byte[] image = (byte[])empty.Clone();
                MemoryDevice? device = null;
                return new(async flags =>
                {
                    image = device?.Content ?? image;
                    (Graph graph, device) = await Qcow2Images.OpenAsync(image, flags, more);
                    return graph;
                });
            },
        }.RunAsync();
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Image_after_random_operations_has_no_leak_and_qemu_agrees(string layout, bool hasParent, int seed)
    {
        using var dir = new TempDir();
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        int size = options.ClusterSize <= 4096 ? 600_000 / 512 * 512 : options.ClusterSize * 9 + 512 * 5;
        OptionMap? more = hasParent
            ? Qcow2Images.WithParent(dir.Write("parent.raw", TestPattern.Make(size / 2, 0, seed)))
            : null;
        byte[] image = await Qcow2Images.CreateAsync(options, size);
        var random = new Random(seed + 100);
        for (int session = 0; session < 3; session++)
        {
            (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image, TestGraph.Writable, more);
            byte[] content;
            await using (graph)
            {
                await Qcow2Images.ChurnAsync(graph.Root, random, 60, options.ClusterSize);
                content = await Qcow2Images.ReadAllAsync(graph.Root);
                await Qcow2Images.AssertCleanAsync(graph.Root, $"session {session}, open");
            }

            image = device.Content;
            await Qcow2Images.AssertCleanAsync(image, $"session {session}, closed");
            Qcow2Images.AssertPeerClean(image, dir, $"session {session}");
            if (!hasParent)
            {
                string raw = dir.File("by-peer.raw");
                Qemu.Img("convert", "-f", "qcow2", "-O", "raw", dir.Write("image.qcow2", image), raw);
                TestPattern.AssertEqual(content, File.ReadAllBytes(raw), 0, "what qemu-img reads");
            }
        }
    }
}
