using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>Random operations compared with a byte array, over the kinds of disks, with and without a parent.</summary>
public sealed class VhdxModelTests
{
    private const int Size = (3 << 20) + (5 * 4096);

    public static TheoryData<string, int> Cases()
    {
        var cases = new TheoryData<string, int>();
        int seed = 1;
        foreach (string layout in VhdxImages.Layouts.Keys)
        {
            cases.Add(layout, seed++);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Random_operations_match_a_byte_array(string layout, int seed)
    {
        byte[] empty = await VhdxImages.CreateAsync(VhdxImages.Layouts[layout], Size);
        await RunAsync(empty, new byte[Size], seed, null);
    }

    [Theory]
    [InlineData(512, 1)]
    [InlineData(512, 2)]
    [InlineData(4096, 3)]
    public async Task Random_operations_over_a_parent_match_a_byte_array(int sectorSize, int seed)
    {
        using var dir = new TempDir();
        var options = new VhdxCreateOptions { BlockSize = VhdxImages.Block, LogicalSectorSize = sectorSize };

        // Shorter than the child, and not at a block's end.
        byte[] content = TestPattern.Make((Size * 2 / 3) & -4096, 0, seed);
        byte[] parent = await VhdxImages.WriteAsync(await VhdxImages.CreateAsync(options, content.Length), 0, content);
        byte[] empty = await VhdxImages.CreateChildAsync(parent, ".\\parent.vhdx", Size, options);
        var initial = new byte[Size];
        content.CopyTo(initial, 0);
        await RunAsync(empty, initial, seed, VhdxImages.WithParent(dir.Write("parent.vhdx", parent)));
    }

    private static Task RunAsync(byte[] empty, byte[] initial, int seed, OptionMap? more) => new ModelTest
    {
        Seed = seed,
        Steps = 90,
        Initial = initial,
        Unit = VhdxImages.Block,
        Largest = 1400 << 10,
        ResizeGranularity = 4096,
        CreateAsync = () =>
        {
            byte[] image = (byte[])empty.Clone();
            MemoryDevice? device = null;
            return new(async flags =>
            {
                image = device?.Content ?? image;
                (Graph graph, device) = await VhdxImages.OpenAsync(image, flags, more);
                return graph;
            });
        },
    }.RunAsync();
}
