using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Finds the parent of a disk and sees to it that it is the right one. What a child does not hold is the parent's, so a
/// missing or changed parent is an error; only the user can say otherwise.
/// </summary>
internal static class VmdkParent
{
    /// <summary>The parent that a descriptor names, or null when there is none or the user wants none.</summary>
    public static async ValueTask<BlockNode?> OpenAsync(
        OpenContext context, VmdkDescriptor descriptor, CancellationToken cancellationToken)
    {
        if (!descriptor.HasParent)
        {
            return null;
        }

        BlockNode? parent = await OpenNamedAsync(context, descriptor.ParentFileName, cancellationToken)
            .ConfigureAwait(false);
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

    /// <summary>
    /// The parent of an extent of ESX that was opened without its descriptor: such extents are mostly snapshots, and
    /// without their parent most of the disk would read as zeroes.
    /// </summary>
    /// <param name="context">Who opens files.</param>
    /// <param name="header">Header of a hosted or COWD extent; null for a SESPARSE one, which names no parent.</param>
    /// <param name="cancellationToken">Stops opening.</param>
    public static async ValueTask<BlockNode?> OpenWithoutDescriptorAsync(
        OpenContext context, VmdkHeader? header, CancellationToken cancellationToken)
    {
        bool given = context.HasChildOptions("backing") || context.Flags.NoBacking;
        if (header is null || header.IsChild)
        {
            if (!given && header?.ParentFileName is null)
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument,
                    "this extent holds only what changed, and does not say since what: open its descriptor instead")
                {
                    Hint = ReferredFile.Hint("backing"),
                };
            }

            return await OpenNamedAsync(context, header?.ParentFileName, cancellationToken).ConfigureAwait(false);
        }

        if (header.IsCowd && context.HasChildOptions("backing"))
        {
            return await OpenNamedAsync(context, null, cancellationToken).ConfigureAwait(false);
        }

        if (header.IsCowd)
        {
            context.Warn("opened without its descriptor: if this extent is a snapshot's, its parent's data is missing");
        }

        return null;
    }

    private static ValueTask<BlockNode?> OpenNamedAsync(
        OpenContext context, string? name, CancellationToken cancellationToken) =>
        ReferredFile.OpenAsync(context, "backing", name, name is null ? null : "vmdk", writable: false, cancellationToken);
}
