using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// VMware disks (Workstation, Fusion, VirtualBox, OVF, QEMU, ESX). Opened from a descriptor file, from a sparse extent
/// with an embedded descriptor, or from a single extent without one.
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
    public override string Summary => "VMware virtual disks: sparse, flat, split, streamOptimized, and snapshots of ESX.";

    /// <inheritdoc/>
    public override ImageCreator Creator { get; } = new VmdkImageCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        var reader = new SpanReader(input.Head);
        if (reader.TryRead(out Le32 magic) && magic.Value is VmdkLayout.SparseMagic or VmdkLayout.CowdMagic)
        {
            return 100;
        }

        // The first word alone would be a Mach-O or a Java class, read backwards.
        reader.TrySeek(0);
        return reader.TryRead(out VmdkSeSparseConstHeader header) && header.Magic == VmdkLayout.SeSparseMagic
            && header.Version == VmdkLayout.SeSparseVersion
                ? 100
                : VmdkDescriptor.Probe(input.Head);
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, VmdkOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        bool isText = await IsTextAsync(file, cancellationToken).ConfigureAwait(false);
        bool isSeSparse = !isText && await VmdkHeader.ReadMagicAsync(file, cancellationToken).ConfigureAwait(false)
            == VmdkLayout.SeSparseMagic;
        VmdkHeader? header = isText || isSeSparse
            ? null : await VmdkHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        long textOffset = header?.DescriptorOffset ?? 0;
        VmdkDescriptor? descriptor = isSeSparse || header is { DescriptorOffset: 0 } ? null
            : await ReadDescriptorAsync(
                file, textOffset, header?.DescriptorSize ?? file.Length, cancellationToken).ConfigureAwait(false);

        var opening = new VmdkOpening(context, TableCacheBytes, WhyNotWritten(options, header, descriptor));
        VmdkExtent[] extents = isSeSparse
            ? await opening.OpenSeSparseAsync(cancellationToken).ConfigureAwait(false)
            : await opening.OpenExtentsAsync(header, descriptor, cancellationToken).ConfigureAwait(false);
        BlockNode? backing = descriptor is not null
            ? await VmdkParent.OpenAsync(context, descriptor, cancellationToken).ConfigureAwait(false)
            : await VmdkParent.OpenWithoutDescriptorAsync(context, header, cancellationToken).ConfigureAwait(false);

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

    /// <summary>
    /// What we change would be missing from an incremental backup, where VMware keeps account of changes. Version 3 of an
    /// extent came with that; its descriptor says whether it is in use.
    /// </summary>
    private static string? WhyNotWritten(VmdkOptions options, VmdkHeader? header, VmdkDescriptor? descriptor)
    {
        if (options.ChangeTracking == VmdkChangeTracking.Ignore)
        {
            return null;
        }

        return descriptor is { ChangeTrackPath: { } path }
            ? $"VMware tracks changed blocks of this disk in '{path}', and would not know of what is written here"
            : descriptor is null && header is { Version: > 2, IsCompressed: false }
                ? "VMware may track changed blocks of this extent; its descriptor, which would say so, is not open"
                : null;
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
}
