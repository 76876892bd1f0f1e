using System.Globalization;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// VMware disks (hosted: Workstation, Fusion, VirtualBox, OVF, QEMU). Opened from a descriptor file, from a sparse
/// extent with an embedded descriptor, or from a single extent without one.
/// </summary>
public sealed class VmdkDriver : BlockDriver<VmdkOptions>
{
    /// <summary>Grain tables kept per disk: those of 128 GiB with the usual geometry.</summary>
    private const long TableCacheBytes = 4 << 20;

    /// <inheritdoc/>
    public override string Name => "vmdk";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "VMware virtual disks: sparse, flat, split and streamOptimized.";

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        var reader = new SpanReader(input.Head);
        return reader.TryRead(out Le32 magic) && magic.Value is VmdkLayout.SparseMagic or VmdkLayout.CowdMagic
            ? 100
            : VmdkDescriptor.Probe(input.Head);
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, VmdkOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        VmdkHeader? header = await IsTextAsync(file, cancellationToken).ConfigureAwait(false)
            ? null : await VmdkHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        long textOffset = header?.DescriptorOffset ?? 0;
        VmdkDescriptor? descriptor = header is { DescriptorOffset: 0 } ? null
            : await ReadDescriptorAsync(
                file, textOffset, header?.DescriptorSize ?? file.Length, cancellationToken).ConfigureAwait(false);

        var opening = new VmdkOpening(context, TableCacheBytes);
        VmdkExtent[] extents = await opening.OpenExtentsAsync(header, descriptor, cancellationToken)
            .ConfigureAwait(false);
        BlockNode? backing = descriptor is { HasParent: true }
            ? await OpenParentAsync(context, descriptor, cancellationToken).ConfigureAwait(false) : null;

        bool writable = context.Flags.Writable;
        VmdkContentId? contentId = writable && descriptor is not null
            ? new VmdkContentId(file, textOffset + descriptor.CidOffset, descriptor.CidDigits, descriptor.Cid) : null;
        var children = new List<BlockChild> { new("file", file) };
        children.AddRange(opening.Children);
        if (backing is not null)
        {
            children.Add(new BlockChild("backing", backing));
        }

        return new VmdkDevice(new VmdkMap(extents, backing, contentId), descriptor, contentId, children, writable);
    }

    /// <summary>Everything with a known magic is an extent; everything else can only be a descriptor.</summary>
    private static async ValueTask<bool> IsTextAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int count = (int)Math.Min(file.Length, ProbeInput.HeadSize);
        using BufferLease head = BufferPool.Shared.Rent(ProbeInput.HeadSize);
        await file.ReadAsync(0, head.Memory[..count], cancellationToken).ConfigureAwait(false);
        return VmdkDescriptor.Probe(head.Span[..count]) > 0;
    }

    private static async ValueTask<VmdkDescriptor> ReadDescriptorAsync(
        BlockNode file, long offset, long size, CancellationToken cancellationToken)
    {
        if (size > VmdkLayout.MaxDescriptorBytes)
        {
            throw BlockException.Limit("the descriptor is too large", size, VmdkLayout.MaxDescriptorBytes, offset);
        }

        using BufferLease text = BufferPool.Shared.Rent((int)size);
        await file.ReadAsync(offset, text.Memory, cancellationToken).ConfigureAwait(false);
        try
        {
            return VmdkDescriptor.Parse(text.Span);
        }
        catch (BlockException e)
        {
            e.Offset += offset;
            throw;
        }
    }

    private static async ValueTask<BlockNode?> OpenParentAsync(
        OpenContext context, VmdkDescriptor descriptor, CancellationToken cancellationToken)
    {
        BlockNode? parent = await context.OpenChildAsync(
            "backing", descriptor.ParentFileName, "vmdk", writable: false, cancellationToken).ConfigureAwait(false);
        if (parent?.Device is not VmdkDevice { Cid: { } cid } || cid == descriptor.ParentCid)
        {
            return parent;
        }

        string found = cid.ToString("x8", CultureInfo.InvariantCulture);
        string expected = descriptor.ParentCid.ToString("x8", CultureInfo.InvariantCulture);
        if (!context.HasChildOptions("backing"))
        {
            throw new BlockException(
                BlockErrorKind.InvalidData,
                $"the parent '{parent.Name}' is not the one that this disk was made on, or was changed since")
            {
                Found = $"CID {found}",
                Expected = expected,
                Hint = "To use it all the same, name it yourself: backing.file.filename=…",
            };
        }

        context.Warn($"the parent '{parent.Name}' has CID {found}, not {expected}: it may have changed");
        return parent;
    }
}
