using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>
/// The power is cut at every change of a disk over a parent: a grain that was filled from the parent is whole or not there
/// at all, and where zeroes were written the parent does not come back.
/// </summary>
public sealed class VmdkChildCrashTests
{
    private const int Size = (320 << 10) + 1536;

    [SkippableTheory]
    [InlineData("subformat=monolithicSparse", 1, false)]
    [InlineData("subformat=monolithicSparse,zeroed_grain=on", 2, false)]
    [InlineData("subformat=twoGbMaxExtentSparse,zeroed_grain=on", 3, true)]
    public async Task Child_over_a_parent(string options, int seed, bool asynchronous)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, seed);
        content.AsSpan(VmdkImages.Grain, VmdkImages.Grain).Clear();
        var maker = new ImageMaker(TestGraph.Registry);
        await maker.CreateAsync(
            "vmdk", dir.File("parent.vmdk"), OptionSyntax.ParsePairs($"size={Size}"), new CreateRequest());
        await using (Graph graph = await TestGraph.OpenAsync(dir.File("parent.vmdk"), TestGraph.Writable))
        {
            await graph.Root.WriteAsync(0, content.AsMemory(0, VmdkImages.Grain));
            await graph.Root.WriteAsync(2 * VmdkImages.Grain, content.AsMemory(2 * VmdkImages.Grain));
        }

        string child = dir.File("child.vmdk");
        await maker.CreateAsync(
            "vmdk", child, OptionSyntax.ParsePairs($"{options},size={Size},backing_file=parent.vmdk"),
            new CreateRequest());
        await new CrashTest
        {
            Image = File.ReadAllBytes(child),
            ImageName = "child.vmdk",
            MoreFiles = [.. Directory.GetFiles(dir.Path).Where(path => path != child).Order()
                .Select(path => (Path.GetFileName(path), File.ReadAllBytes(path)))],
            InitialDisk = content,
            Seed = seed,
            CompletesAsynchronously = asynchronous,
            MixturesPerCut = 1,
            SecondCrashes = 1,
            PeerChecks = 6,
            OpenAsync = (file, flags) => CrashFiles.Of(file).OpenAsync("vmdk", flags),
            PeerCheck = CrashTest.QemuCheck("vmdk"),
        }.RunAsync(async guest =>
        {
            await guest.ZeroAsync(3 * VmdkImages.Grain, VmdkImages.Grain, ZeroFlags.MayUnmap);
            await guest.RunMixedAsync(10, 50 << 10);
            Assert.DoesNotContain(guest.Device.Log, change => change.File.Name == "parent.vmdk");
        });
    }
}
