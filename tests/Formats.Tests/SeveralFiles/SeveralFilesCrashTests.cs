using System.Text;
using ImageMount.Formats.Qcow2;
using ImageMount.Formats.Tests.Parallels;
using ImageMount.Formats.Tests.Qcow2;
using ImageMount.Formats.Tests.Vmdk;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.SeveralFiles;

/// <summary>
/// The power is cut at every change of any of the files that make up one disk: what is in one may have been lost that
/// was written before something in another that was not.
/// </summary>
public sealed class SeveralFilesCrashTests
{
    [SkippableTheory]
    [InlineData(1u, 2, true)]
    [InlineData(2u, 3, false)]
    public async Task Vmdk_of_a_descriptor_and_sparse_extents(uint version, int seed, bool asynchronous)
    {
        // Extents that do not end with a grain, and one whose tables are yet to be made.
        int[] sizes = [(150 << 10) + 512, 96 << 10, (50 << 10) + 1024];
        byte[] content = VmdkImages.Content(sizes.Sum(), seed);
        content.AsSpan(sizes[0], sizes[1]).Clear();
        var extents = new List<(string Name, byte[] Content)>();
        var lines = new List<string>();
        int at = 0;
        foreach (int size in sizes)
        {
            string name = $"disk-s{extents.Count + 1:000}.vmdk";
            var hand = new VmdkByHand
            {
                Capacity = size,
                GrainSize = 8 << 10,
                EntriesPerTable = 128,
                Descriptor = "",
                Version = version,
                Content = content[at..(at + size)],
                TablesMissing = extents.Count == 1,
            };
            extents.Add((name, hand.Build()));
            lines.Add($"RW {size / 512} SPARSE \"{name}\"");
            at += size;
        }

        string descriptor = VmdkByHand.MakeDescriptor("twoGbMaxExtentSparse", [.. lines]);
        int states = await new CrashTest
        {
            Image = Encoding.ASCII.GetBytes(descriptor),
            ImageName = "disk.vmdk",
            MoreFiles = extents,
            InitialDisk = content,
            Seed = seed,
            CompletesAsynchronously = asynchronous,
            MixturesPerCut = 1,
            SecondCrashes = 1,
            PeerChecks = 5,
            OpenAsync = (file, flags) => CrashFiles.Of(file).OpenAsync("vmdk", flags),
            PeerCheck = CrashTest.QemuCheck("vmdk"),
        }.RunAsync(guest => guest.RunMixedAsync(15, 40 << 10));
        Assert.InRange(states, 100, int.MaxValue);
    }

    [SkippableTheory]
    [InlineData("512", false, 1)]
    [InlineData("4k", true, 3)]
    [InlineData("extended-16k", false, 4)]
    public async Task Qcow2_with_a_data_file(string layout, bool raw, int seed)
    {
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout == "4k" ? "4k-refcount2" : layout] with
        {
            RefcountBits = 16,
            DataFile = "disk.data",
            DataFileRaw = raw,
        };
        int size = Math.Max(160 << 10, options.ClusterSize * 3) + (512 * 3);
        var image = new MemoryDevice(0);
        var data = new MemoryDevice(0);
        await Qcow2Creator.CreateAsync(
            new BlockNode("new", "test", image), options with { Size = size }, new BlockNode("data", "test", data),
            CancellationToken.None);
        byte[] first = TestPattern.Make(size / 2, 0, 99);
        CrashFiles made = new([("disk.qcow2", image.Content), ("disk.data", data.Content)]);
        await using (Graph graph = await made.OpenAsync("qcow2", TestGraph.Writable))
        {
            await graph.Root.WriteAsync(0, first);
        }

        var initial = new byte[size];
        first.CopyTo(initial, 0);
        await new CrashTest
        {
            Image = made.Main.ToArray(),
            ImageName = "disk.qcow2",
            MoreFiles = [("disk.data", made.Devices[1].ToArray())],
            InitialDisk = initial,
            Seed = seed,
            MixturesPerCut = 1,
            SecondCrashes = 2,
            PeerChecks = 6,
            OpenAsync = (file, flags) => CrashFiles.Of(file).OpenAsync("qcow2", flags),
            PeerCheck = QemuCheckWithDataFile,

            // What promises to be a raw disk has to be one after a crash too.
            OtherView = raw ? files => files.Devices[1].ToArray()[..size] : null,
        }.RunAsync(guest => guest.RunMixedAsync(30, 30 << 10));
    }

    [SkippableTheory]
    [InlineData(1)]
    public async Task Parallels_bundle_with_snapshots(int seed)
    {
        using var dir = new TempDir();
        byte[] content = ParallelsBundleTests.Make(dir).Top;
        string image = dir.File("DiskDescriptor.xml");
        await new CrashTest
        {
            Image = File.ReadAllBytes(image),
            ImageName = "DiskDescriptor.xml",
            MoreFiles = [.. Directory.GetFiles(dir.Path).Where(path => path != image).Order()
                .Select(path => (Path.GetFileName(path), File.ReadAllBytes(path)))],
            InitialDisk = content,
            Seed = seed,
            SecondCrashes = 2,
            OpenAsync = (file, flags) => CrashFiles.Of(file).OpenAsync("parallels", flags),
        }.RunAsync(guest => guest.RunMixedAsync(30, 60 << 10));
    }

    [SkippableTheory]
    [InlineData(1)]
    public async Task Raw_disk_cut_into_files(int seed)
    {
        byte[] content = TestPattern.Make(96 << 10, 0, seed);
        var options = new OptionMap();
        options.SetPath("parts.2.file.filename", CrashFiles.Folder + "/disk.002");
        options.SetPath("parts.3.file.filename", CrashFiles.Folder + "/disk.003");
        await new CrashTest
        {
            Image = content[..(40 << 10)],
            ImageName = "disk.001",
            MoreFiles = [("disk.002", content[(40 << 10)..(41 << 10)]), ("disk.003", content[(41 << 10)..])],
            InitialDisk = content,
            Seed = seed,
            SecondCrashes = 2,
            OpenAsync = (file, flags) => CrashFiles.Of(file).OpenAsync("split", flags, options),
        }.RunAsync(guest => guest.RunMixedAsync(24, 16 << 10));
    }

    /// <summary>qemu looks for the data file in its own folder, not beside the image.</summary>
    private static string? QemuCheckWithDataFile(string path)
    {
        string data = Path.Join(Path.GetDirectoryName(path), "disk.data");
        ToolResult result = Qemu.Run(
            "qemu-img", "check", "--image-opts", $"driver=qcow2,file.filename={path},data-file.driver=raw,"
                + $"data-file.file.driver=file,data-file.file.filename={data}");
        return result.ExitCode is 0 or 3 ? null : $"qemu-img check gave {result.ExitCode}: {result.All}";
    }
}
