using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Files;

/// <summary>Block devices, by the example of a loop device.</summary>
public sealed class FileBlockDeviceTests(ITestOutputHelper output) : FileTestBase(output)
{
    private const int Size = 8 << 20;

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Device_reads_writes_zeroes_and_keeps_its_size(bool direct)
    {
        string file = NewFile(Pattern(Size));
        string device = NewLoop(file);
        BlockNode node = Open(device, Writable with { Direct = direct });
        Assert.Equal(Size, node.Length);
        Assert.Equal(direct, IsDirect(node));
        Assert.True((node.Capabilities & BlockCapabilities.Resize) == 0);
        byte[] model = Pattern(Size);
        byte[] bytes = Pattern(10_000, 5);
        await node.WriteAsync(12_345, bytes);
        bytes.CopyTo(model, 12_345);

        // Neither end on a block, and large enough to hold blocks.
        await node.ZeroAsync(100_001, 1_000_000);
        model.AsSpan(100_001, 1_000_000).Clear();
        await node.ZeroAsync(2_000_001, 1_000_000, ZeroFlags.MayUnmap);
        model.AsSpan(2_000_001, 1_000_000).Clear();
        await node.ZeroAsync(5_000_001, 10);
        model.AsSpan(5_000_001, 10).Clear();
        Assert.Equal(model, await ReadAsync(node, 0, Size));

        await node.DiscardAsync(6_000_000, 1_000_001);
        byte[] after = await ReadAsync(node, 6_000_000, 1_000_001);
        for (int i = 0; i < after.Length; i++)
        {
            Assert.True(after[i] == 0 || after[i] == model[6_000_000 + i], "a discard made up data");
        }

        Assert.True(await node.TryResizeAsync(Size));
        Assert.False(await node.TryResizeAsync(2 * Size));
        await node.FlushAsync();
        await node.CloseAsync();
        after.CopyTo(model, 6_000_000);
        Assert.Equal(model, await ReadAsync(Open(device, ReadOnly), 0, Size));
    }

    [SkippableFact]
    public void Device_that_is_mounted_is_refused_for_writing()
    {
        Require.Tool("mkfs.ext4");
        string file = NewFile(new byte[Size]);
        Qemu.Succeed("mkfs.ext4", "-q", file);
        string device = NewLoop(file);
        Mount("ext4", device, "ro,noload");
        BlockException e = Refused(device, Writable);
        Assert.Equal(BlockErrorKind.InUse, e.Kind);
        Assert.Contains("--read-only", e.Describe(), StringComparison.Ordinal);
        Open(device, ReadOnly);
    }

    [SkippableFact]
    public void Device_under_two_names_has_one_identity()
    {
        string device = NewLoop(NewFile(Pattern(Size)));
        string link = Path.Combine(NewFolder(), "link");
        File.CreateSymbolicLink(link, device);
        string Identity(string name) => ((IHasIdentity)Open(name, ReadOnly).Device).Identity;
        Assert.Equal(Identity(device), Identity(link));
        Assert.StartsWith("device:7:", Identity(device), StringComparison.Ordinal);
    }
}
