using System.Buffers.Binary;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>
/// Valid images that stand on a parent, and an old kind of Parallels image: seeds that no one program makes.
/// </summary>
internal static class ChildSeeds
{
    private const int Seed = 5006;
    private const int Length = (1 << 20) + 512;

    /// <summary>A differencing VHD that names its parent by relative and absolute path.</summary>
    public static SeedImage Vpc()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage parent = QemuImages.FlatTable(scratch, "vpc", "force_size=on", 64 << 10, Length, Seed);
        string name = Path.GetFileName(parent.Path);
        string path = scratch["child.vhd"];
        Task.Run(async () =>
        {
            await new ImageMaker(TestGraph.Registry).CreateAsync(
                "vpc", path, OptionSyntax.ParsePairs($"backing_file={name}"), new CreateRequest());
            await using Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
            await graph.Root.WriteAsync(3000, TestPattern.Make(100_000, 0, Seed));
        }).GetAwaiter().GetResult();
        byte[] content = File.ReadAllBytes(parent.Path);

        // qemu takes a child for a complete disk: nothing to compare with.
        return new SeedImage("vpc child", File.ReadAllBytes(path))
        {
            Companions = new Dictionary<string, byte[]>
            {
                [name] = content,
                ["./" + name] = content,
                [parent.Path] = content,
            },
            HasPeer = false,
        };
    }

    /// <summary>A differencing VDI: a dynamic one that says so, with a parent that the user names.</summary>
    public static SeedImage Vdi(SeedImage dynamic)
    {
        byte[] bytes = (byte[])dynamic.Bytes.Clone();
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(76), 4);
        new Guid("11111111-2222-3333-4444-555555555555").TryWriteBytes(bytes.AsSpan(0x1a8));
        new Guid("aaaaaaaa-2222-3333-4444-555555555555").TryWriteBytes(bytes.AsSpan(0x1b8));
        return new SeedImage("vdi child", bytes)
        {
            GivenParent = TestPattern.Make(Length - 5000, 0, Seed),
            HasPeer = false,
        };
    }

    /// <summary>Version 1 of Parallels: entries count sectors, not clusters.</summary>
    public static SeedImage ParallelsVersion1(SeedImage version2)
    {
        byte[] bytes = (byte[])version2.Bytes.Clone();
        "WithoutFreeSpace"u8.CopyTo(bytes);
        uint sectors = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(28));
        uint entries = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(32));
        for (int i = 0; i < entries; i++)
        {
            Span<byte> entry = bytes.AsSpan(64 + (4 * i), 4);
            BinaryPrimitives.WriteUInt32LittleEndian(
                entry, BinaryPrimitives.ReadUInt32LittleEndian(entry) * sectors);
        }

        return new SeedImage("parallels version 1", bytes);
    }

    /// <summary>A child of qemu's, and its parent beside it.</summary>
    public static SeedImage Vmdk()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage parent = QemuImages.Vmdk(scratch, "monolithicSparse", "", Length, Seed);
        string name = Path.GetFileName(parent.Path);
        string path = scratch["child.vmdk"];
        PeerTool.Img("create", "-q", "-f", "vmdk", "-b", name, "-F", "vmdk", path);
        PeerTool.Io(path, "vmdk", ["write -q -P 7 3k 100k", "write -q -P 8 700k 64k"]);
        return new SeedImage("vmdk child", File.ReadAllBytes(path))
        {
            Companions = new Dictionary<string, byte[]> { [name] = File.ReadAllBytes(parent.Path) },
        };
    }
}
