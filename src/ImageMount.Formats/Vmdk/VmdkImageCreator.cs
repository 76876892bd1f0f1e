using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Makes disks of all subformats that qemu-img makes, with its names for the files: disk-flat.vmdk, disk-f001.vmdk,
/// disk-s001.vmdk. The file that makes it an image, descriptor or header, is written last.
/// </summary>
internal sealed class VmdkImageCreator : ImageCreator<VmdkCreateOptions>
{
    private const long SplitSize = 2L << 30;

    /// <inheritdoc/>
    protected override bool IsSequential(VmdkCreateOptions options) =>
        options.Subformat == VmdkSubformat.StreamOptimized;

    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, VmdkCreateOptions options, CancellationToken cancellationToken)
    {
        bool flat = options.Subformat is VmdkSubformat.MonolithicFlat or VmdkSubformat.TwoGbMaxExtentFlat;
        Require(!IsSequential(options), "a streamOptimized disk can only be made from another one");
        Require(!flat || options.BackingFile is null, "a flat disk has no parent");
        Require(!flat || !options.ZeroedGrain, "a flat disk has no zeroed grains");
        long size = RoundUp(context, options.Size, VmdkLayout.SectorSize);
        uint parentCid = await ReadParentAsync(context, options, size, cancellationToken).ConfigureAwait(false);
        if (options.Subformat == VmdkSubformat.MonolithicSparse)
        {
            Require(size <= VmdkSparseFile.MaxSize, "one sparse extent has at most 2 TiB; use twoGbMaxExtentSparse");
            byte[] inside = VmdkDescriptorText.Make(
                "monolithicSparse", [VmdkDescriptorText.Extent("RW", size, "SPARSE", context.FileName)], size, options,
                parentCid);
            await VmdkSparseFile.CreateAsync(context.File, size, inside, options.ZeroedGrain, cancellationToken)
                .ConfigureAwait(false);
            return;
        }

        List<string> lines = await MakeExtentsAsync(context, options, size, flat, cancellationToken)
            .ConfigureAwait(false);
        byte[] text = VmdkDescriptorText.Make(NameOf(options.Subformat), lines, size, options, parentCid);
        await VmdkSparseFile.GrowAsync(context.File, text.Length, cancellationToken).ConfigureAwait(false);
        await context.File.WriteAsync(0, text, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await context.File.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    protected override async ValueTask CreateFromAsync(
        CreateContext context, VmdkCreateOptions options, BlockNode source, CancellationToken cancellationToken)
    {
        Require(IsSequential(options), "only streamOptimized is written as a stream");
        Require(options.BackingFile is null, "a streamOptimized disk is made without a parent");
        Require(!options.ZeroedGrain, "a streamOptimized disk leaves grains of zeroes out; zeroed_grain has no meaning");
        Require(options.Size >= source.Length, "the size is smaller than the source");

        // VMware's importers refuse a stream that ends inside a grain.
        long size = RoundUp(context, options.Size, VmdkSparseFile.GrainSize);
        byte[] text = VmdkDescriptorText.Make(
            "streamOptimized", [VmdkDescriptorText.Extent("RDONLY", size, "SPARSE", context.FileName)], size, options, 0);
        VmdkSparseFile.CheckDescriptor(text);
        await new VmdkStreamWriter(context.File, source, size, text).RunAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<List<string>> MakeExtentsAsync(
        CreateContext context, VmdkCreateOptions options, long size, bool flat, CancellationToken cancellationToken)
    {
        bool split = options.Subformat is VmdkSubformat.TwoGbMaxExtentFlat or VmdkSubformat.TwoGbMaxExtentSparse;
        long each = split ? SplitSize : size;
        long count = (size + each - 1) / each;
        Require(count <= VmdkLayout.MaxExtents, $"a disk has at most {VmdkLayout.MaxExtents} extents");
        var lines = new List<string>();
        for (int i = 0; i < count; i++)
        {
            string name = ExtentName(context.FileName, split ? i + 1 : 0, flat);
            long part = Math.Min(each, size - (i * each));
            lines.Add(VmdkDescriptorText.Extent("RW", part, flat ? "FLAT" : "SPARSE", name));
            BlockNode file = await context.CreateSiblingAsync(name, cancellationToken).ConfigureAwait(false);
            if (flat)
            {
                await VmdkSparseFile.GrowAsync(file, part, cancellationToken).ConfigureAwait(false);
                await file.FlushAsync(cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await VmdkSparseFile.CreateAsync(file, part, null, options.ZeroedGrain, cancellationToken)
                    .ConfigureAwait(false);
            }
        }

        return lines;
    }

    /// <summary>The parent's content id; 0 without a parent.</summary>
    private static async ValueTask<uint> ReadParentAsync(
        CreateContext context, VmdkCreateOptions options, long size, CancellationToken cancellationToken)
    {
        Require(options.BackingFormat is null || options.BackingFile is not null, "backing_fmt needs backing_file");
        if (options.BackingFile is null)
        {
            return 0;
        }

        Require(options.BackingFormat is null or "vmdk", "the parent of a VMDK is a VMDK");
        BlockNode parent = await context.OpenParentAsync(options.BackingFile, options.BackingFormat, cancellationToken)
            .ConfigureAwait(false);
        if (parent.Device is not VmdkDevice { Cid: { } cid })
        {
            throw Wrong($"the parent '{parent.Name}' is not a VMDK with a content id, but {parent.Driver}");
        }

        if (parent.Length != size)
        {
            context.Warn($"the disk has {size} bytes and its parent {parent.Length}; VMware's programs expect the same");
        }

        return cid;
    }

    private static string ExtentName(string fileName, int number, bool flat)
    {
        string stem = Path.GetFileNameWithoutExtension(fileName);
        string kind = number == 0 ? "flat" : (flat ? "f" : "s") + number.ToString("D3", CultureInfo.InvariantCulture);
        return $"{stem}-{kind}{Path.GetExtension(fileName)}";
    }

    private static string NameOf(VmdkSubformat subformat) => subformat switch
    {
        VmdkSubformat.MonolithicFlat => "monolithicFlat",
        VmdkSubformat.TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
        _ => "twoGbMaxExtentFlat",
    };

    private static long RoundUp(CreateContext context, long size, int unit)
    {
        Require(size > 0, "a VMDK has at least one sector");
        Require(size <= long.MaxValue - unit, "a disk of this size cannot be made");
        long rounded = (size + unit - 1) / unit * unit;
        if (rounded != size)
        {
            context.Warn($"the size is rounded up from {size} to {rounded} bytes, a multiple of {unit}");
        }

        return rounded;
    }

    private static void Require(bool condition, string rule)
    {
        if (!condition)
        {
            throw Wrong(rule);
        }
    }

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);
}
