using ImageMount.Formats.Tests.Vdi;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Mapped;

/// <summary>
/// Files that an image names, with every driver that has such names: one outside the image's folder needs the user's word,
/// one that is missing is explained, and the user may name another or leave a parent out.
/// </summary>
public sealed class ConfinementTests
{
    private const int Size = 1 << 20;
    private const int OwnStart = 640 << 10;
    private const int OwnSize = 64 << 10;
    private const byte Theirs = 0x61;
    private const byte Own = 0x62;

    /// <summary>Name, driver, role, whether the image can do without the file.</summary>
    public static TheoryData<string, string, string, bool> Cases => new()
    {
        { "qcow2 backing", "qcow2", "backing", true },
        { "qcow2 data file", "qcow2", "data-file", false },
        { "qed", "qed", "backing", true },
        { "qcow", "qcow", "backing", true },
        { "vmdk extent", "vmdk", "extents.0", false },
        { "vmdk parent", "vmdk", "backing", true },
        { "vpc", "vpc", "backing", true },
        { "vhdx", "vhdx", "backing", true },
    };

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task File_outside_the_folder_needs_to_be_allowed_or_named(
        string kind, string driver, string role, bool canDoWithout)
    {
        using var dir = new TempDir();
        (string image, string other) = await MakeAsync(dir, kind);
        BlockException denied = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(image));
        Assert.Equal(BlockErrorKind.PermissionDenied, denied.Kind);
        Assert.Contains(Path.GetFileName(other), denied.Describe(), StringComparison.Ordinal);
        Assert.Contains("--allow-external", denied.Hint, StringComparison.Ordinal);
        Assert.Contains($"{role}.file.filename=", denied.Hint, StringComparison.Ordinal);

        foreach (bool writable in (bool[])[false, true])
        {
            await using Graph allowed = await TestGraph.OpenAsync(
                image, new OpenFlags { AllowExternal = true, Writable = writable });
            await AssertReadsAsync(allowed, Theirs, kind);
        }

        await AssertOverridesAsync(image, driver, role, other, canDoWithout);
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Link_that_leads_out_of_the_folder_is_outside(
        string kind, string driver, string role, bool canDoWithout)
    {
        using var dir = new TempDir();
        (string image, string other) = await MakeAsync(dir, kind, beside: true);
        await using (Graph beside = await TestGraph.OpenAsync(image))
        {
            await AssertReadsAsync(beside, Theirs, kind);
        }

        string moved = Path.Combine(dir.File("outside"), Path.GetFileName(other));
        File.Move(other, moved);
        File.CreateSymbolicLink(other, moved);
        BlockException denied = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(image));
        Assert.Equal(BlockErrorKind.PermissionDenied, denied.Kind);
        await AssertOverridesAsync(image, driver, role, other, canDoWithout);
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Missing_file_is_explained_and_may_be_named_or_left_out(
        string kind, string driver, string role, bool canDoWithout)
    {
        using var dir = new TempDir();
        (string image, string other) = await MakeAsync(dir, kind, beside: true);
        string moved = Path.Combine(dir.File("outside"), "moved");
        File.Move(other, moved);
        BlockException missing = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(image));
        Assert.Equal(BlockErrorKind.NotFound, missing.Kind);
        Assert.Contains(Path.GetFileName(other), missing.Describe(), StringComparison.Ordinal);
        Assert.Contains($"{role}.file.filename=", missing.Hint, StringComparison.Ordinal);
        Assert.Equal(canDoWithout, missing.Hint!.Contains("backing=", StringComparison.Ordinal));
        await AssertOverridesAsync(image, driver, role, moved, canDoWithout);
    }

    [Fact]
    public async Task Vdi_names_no_parent_and_takes_the_one_that_the_user_names()
    {
        using var dir = new TempDir();
        var parent = new VdiByHand { Size = Size, BlockSize = OwnSize, Places = [.. Enumerable.Range(0, 16).Select(i => (uint)i)] };
        string image = dir.Write("child.vdi", new VdiByHand
        {
            Size = Size,
            BlockSize = OwnSize,
            Type = 4,
            LinkId = parent.CreateId,
            ParentModifyId = parent.ModifyId,
            CreateId = Guid.NewGuid(),
            Places = [.. Enumerable.Range(0, 16).Select(i => i * OwnSize == OwnStart ? 0 : VdiByHand.Free)],
        }.Build(Content(0, Own)));
        using var outside = new TempDir();
        string other = outside.Write("parent.vdi", parent.Build(Content(Theirs, Theirs)));
        BlockException missing = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(image));
        Assert.Equal(BlockErrorKind.NotFound, missing.Kind);
        Assert.Contains("backing=", missing.Hint, StringComparison.Ordinal);
        await AssertOverridesAsync(image, "vdi", "backing", other, canDoWithout: true);
    }

    /// <summary>Makes an image in a folder of its own, and what it names beside it or in another one.</summary>
    private static async Task<(string Image, string Other)> MakeAsync(TempDir dir, string kind, bool beside = false)
    {
        Require.Tool("qemu-img");
        Require.Tool("qemu-io");
        Directory.CreateDirectory(dir.File("inside"));
        Directory.CreateDirectory(dir.File("outside"));
        string folder = dir.File(beside ? "inside" : "outside");
        string reference = beside ? "" : "../outside/";
        string driver = kind.Split(' ')[0];
        string image = Path.Combine(dir.File("inside"), "image." + driver);
        string other = Path.Combine(folder, "other");
        switch (kind)
        {
            case "qcow2 backing" or "qed" or "qcow":
                File.WriteAllBytes(other, Content(Theirs, Theirs));
                Qemu.Img("create", "-q", "-f", driver, "-b", $"{reference}other", "-F", "raw", image);
                break;
            case "qcow2 data file":
                Qemu.Img("create", "-q", "-f", driver, "-o", $"data_file={other}", image, $"{Size}");
                Fill(image, driver, Theirs, 0, Size);
                break;
            case "vmdk extent":
                other = Path.Combine(folder, "image-flat.vmdk");
                Qemu.Img("create", "-q", "-f", driver, "-o", "subformat=monolithicFlat", image, $"{Size}");
                File.Move(Path.Combine(dir.File("inside"), "image-flat.vmdk"), other, overwrite: true);
                File.WriteAllText(image, File.ReadAllText(image).Replace(
                    "\"image-flat.vmdk\"", $"\"{reference}image-flat.vmdk\"", StringComparison.Ordinal));
                Fill(image, driver, Theirs, 0, Size);
                break;
            case "vmdk parent":
                Qemu.Img("create", "-q", "-f", driver, other, $"{Size}");
                Fill(other, driver, Theirs, 0, Size);
                Qemu.Img("create", "-q", "-f", driver, "-b", $"{reference}other", "-F", driver, image);
                break;
            default:
                string[] exact = driver == "vpc" ? ["-o", "force_size=on"] : [];
                Qemu.Img(["create", "-q", "-f", driver, .. exact, other, $"{Size}"]);
                Fill(other, driver, Theirs, 0, Size);
                var flags = new OpenFlags { Writable = true, AllowExternal = true };
                await new ImageMaker(TestGraph.Registry).CreateAsync(
                    driver, image, OptionSyntax.ParsePairs($"backing_file={reference}other"),
                    new CreateRequest { Flags = flags });
                await using (Graph child = await TestGraph.OpenAsync(image, flags))
                {
                    await child.Root.WriteAsync(OwnStart, Content(Own, Own).AsMemory(0, OwnSize));
                }

                return (image, other);
        }

        Fill(image, driver, Own, OwnStart, OwnSize);
        return (image, other);
    }

    private static void Fill(string image, string driver, byte value, int at, int count) =>
        Qemu.Io(driver, image, $"write -q -P {value} {at} {count}");

    /// <summary>What the user types is the user's business, wherever it is.</summary>
    private static async Task AssertOverridesAsync(
        string image, string driver, string role, string other, bool canDoWithout)
    {
        string options = $"driver={driver},file.filename={image},{role}";
        await using (Graph named = await TestGraph.OpenOptionsAsync($"{options}.file.filename={other}"))
        {
            await AssertReadsAsync(named, Theirs, $"{driver}, {role} named");
        }

        if (!canDoWithout)
        {
            BlockException refused = await Assert.ThrowsAsync<BlockException>(
                async () => await TestGraph.OpenOptionsAsync(options + "="));
            Assert.Equal(BlockErrorKind.InvalidArgument, refused.Kind);
            return;
        }

        await using Graph alone = await TestGraph.OpenOptionsAsync(options + "=");
        await AssertReadsAsync(alone, 0, $"{driver}, {role} left out");
    }

    private static async Task AssertReadsAsync(Graph graph, byte theirs, string context)
    {
        var found = new byte[Size];
        await graph.Root.ReadAsync(0, found);
        TestPattern.AssertEqual(Content(theirs, Own), found, 0, context);
    }

    private static byte[] Content(byte around, byte own)
    {
        var content = new byte[Size];
        content.AsSpan().Fill(around);
        content.AsSpan(OwnStart, OwnSize).Fill(own);
        return content;
    }
}
