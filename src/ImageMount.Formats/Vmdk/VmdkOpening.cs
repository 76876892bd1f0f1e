using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>Turns the lines of a descriptor into extents with their files.</summary>
/// <param name="context">Who opens files.</param>
/// <param name="tableCacheBytes">Bound of the disk's cache of grain tables.</param>
/// <param name="whyNotWritten">Why the whole disk must not be written, or null.</param>
internal sealed class VmdkOpening(OpenContext context, long tableCacheBytes, string? whyNotWritten)
{
    private readonly LeafTableCache _tables = new(tableCacheBytes);
    private readonly List<BlockChild> _children = [];
    private readonly Dictionary<string, BlockNode> _flatFiles = new(StringComparer.Ordinal);
    private readonly HashSet<string> _sparseFiles = new(StringComparer.Ordinal);
    private long _directoryEntries;

    /// <summary>Nodes that were opened.</summary>
    public IReadOnlyList<BlockChild> Children => _children;

    /// <summary>Opens a disk that is a lone SESPARSE extent.</summary>
    public async ValueTask<VmdkExtent[]> OpenSeSparseAsync(CancellationToken cancellationToken)
    {
        VmdkSeSparseHeader header = await VmdkSeSparseHeader.ReadAsync(context.File, cancellationToken)
            .ConfigureAwait(false);
        var line = new VmdkExtentLine(
            VmdkAccess.ReadWrite, header.Capacity, VmdkExtentType.SeSparse, "SESPARSE", null, 0);
        VmdkExtent[] extents =
            [await MakeSeSparseAsync(0, line, context.File, header, cancellationToken).ConfigureAwait(false)];
        CheckWritable(extents);
        return extents;
    }

    /// <summary>Opens all extents.</summary>
    /// <param name="header">Header of the "file" child when that is a sparse extent.</param>
    /// <param name="descriptor">The descriptor, or null when a sparse extent has none.</param>
    /// <param name="cancellationToken">Stops opening.</param>
    public async ValueTask<VmdkExtent[]> OpenExtentsAsync(
        VmdkHeader? header, VmdkDescriptor? descriptor, CancellationToken cancellationToken)
    {
        if (header is { Capacity: 0 } && descriptor is not { Extents.Count: > 0 })
        {
            throw BlockException.Invalid("the disk has no extents: its capacity is 0", 12);
        }

        VmdkExtentLine[] lines = descriptor is null ? [] : [.. descriptor.Extents];
        int self = header is { Capacity: > 0 } ? FindSelf(ref lines, header) : -1;
        if (lines.Length == 0)
        {
            throw BlockException.Invalid("the descriptor names no extents");
        }

        var extents = new VmdkExtent[lines.Length];
        long at = 0;
        for (int i = 0; i < lines.Length; i++)
        {
            VmdkExtentLine line = lines[i];
            if (line.Length > long.MaxValue - at)
            {
                throw BlockException.Invalid("the extents together are larger than any disk");
            }

            extents[i] = i == self
                ? await MakeSparseAsync(at, line, context.File, header!, cancellationToken).ConfigureAwait(false)
                : await OpenExtentAsync(at, line, cancellationToken).ConfigureAwait(false);
            at = extents[i].GuestEnd;
        }

        CheckWritable(extents);
        return extents;
    }

    /// <summary>
    /// Which line is the file that contains the descriptor. Its name there is not trusted: renaming an image does not
    /// change it.
    /// </summary>
    private int FindSelf(ref VmdkExtentLine[] lines, VmdkHeader header)
    {
        if (lines.Length == 0)
        {
            lines = [new VmdkExtentLine(
                VmdkAccess.ReadWrite, header.Capacity, VmdkExtentType.Sparse, header.TypeName, null, 0)];
            return 0;
        }

        VmdkExtentLine[] all = lines;
        int[] sparse = [.. Enumerable.Range(0, all.Length).Where(i => all[i].Type == VmdkExtentType.Sparse)];
        if (sparse.Length > 1)
        {
            string own = Path.GetFileName(context.NodeName);
            sparse = [.. sparse.Where(i => Path.GetFileName(all[i].FileName) == own)];
        }

        if (sparse.Length != 1)
        {
            throw BlockException.Invalid(
                "the embedded descriptor does not say which extent this file is", header.DescriptorOffset,
                $"{sparse.Length} candidates", "1");
        }

        if (lines.Length == 1 && lines[0].Length != header.Capacity)
        {
            context.Warn($"the descriptor gives the size {lines[0].Length}, the header {header.Capacity}; "
                + "the header counts");
            lines[0] = lines[0] with { Length = header.Capacity };
        }

        return sparse[0];
    }

    private async ValueTask<VmdkExtent> OpenExtentAsync(
        long guestStart, VmdkExtentLine line, CancellationToken cancellationToken)
    {
        if (line.Type == VmdkExtentType.Unsupported)
        {
            throw BlockException.Unsupported(
                $"extents of type {line.TypeName} are not supported: they name a disk of the ESX host",
                "Open that disk itself, or have ESX copy it to a virtual disk (vmkfstools -i).");
        }

        if (line.Type == VmdkExtentType.Zero)
        {
            return new VmdkZeroExtent(guestStart, line);
        }

        string name = line.FileName!;
        bool sparse = line.Type != VmdkExtentType.Flat;
        if (sparse ? _flatFiles.ContainsKey(name) || !_sparseFiles.Add(name) : _sparseFiles.Contains(name))
        {
            throw BlockException.Invalid($"the extent file '{name}' is named twice");
        }

        // Several parts of one flat file are usual in images of partitions.
        if (!_flatFiles.TryGetValue(name, out BlockNode? node))
        {
            node = await OpenFileAsync(name, line.Access == VmdkAccess.ReadWrite, cancellationToken)
                .ConfigureAwait(false);
        }

        if (!sparse)
        {
            _flatFiles.TryAdd(name, node);
            return new VmdkFlatExtent(guestStart, line, node);
        }

        try
        {
            return await OpenSparseAsync(guestStart, line, node, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            e.Stamp(node.Name, null);
            throw;
        }
    }

    /// <summary>The magic says what the extent is; a descriptor that names something else is wrong about the file.</summary>
    private async ValueTask<VmdkExtent> OpenSparseAsync(
        long guestStart, VmdkExtentLine line, BlockNode node, CancellationToken cancellationToken)
    {
        uint magic = await VmdkHeader.ReadMagicAsync(node, cancellationToken).ConfigureAwait(false);
        bool fits = line.Type switch
        {
            VmdkExtentType.SeSparse => magic == VmdkLayout.SeSparseMagic,
            VmdkExtentType.VmfsSparse => magic == VmdkLayout.CowdMagic,
            _ => magic is VmdkLayout.SparseMagic or VmdkLayout.CowdMagic,
        };
        if (!fits)
        {
            throw BlockException.Invalid(
                $"the extent is not of the type {line.TypeName} that the descriptor gives", 0, $"magic 0x{magic:x8}");
        }

        if (magic == VmdkLayout.SeSparseMagic)
        {
            VmdkSeSparseHeader facts = await VmdkSeSparseHeader.ReadAsync(node, cancellationToken)
                .ConfigureAwait(false);
            return await MakeSeSparseAsync(guestStart, line, node, facts, cancellationToken).ConfigureAwait(false);
        }

        VmdkHeader header = await VmdkHeader.ReadAsync(node, cancellationToken).ConfigureAwait(false);
        return await MakeSparseAsync(guestStart, line, node, header, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<BlockNode> OpenFileAsync(string name, bool writable, CancellationToken cancellationToken)
    {
        string role = $"extents.{_children.Count}";
        BlockNode node = await ReferredFile.OpenExtentAsync(context, role, name, writable, cancellationToken)
            .ConfigureAwait(false)
            ?? throw new BlockException(BlockErrorKind.InvalidArgument, $"the disk cannot do without its {role}");
        if (writable && context.Flags.Writable && !node.CanWrite)
        {
            context.Warn($"the extent '{name}' is stored in what can only be read");
        }

        _children.Add(new BlockChild(role, node));
        return node;
    }

    private async ValueTask<VmdkExtent> MakeSparseAsync(
        long guestStart, VmdkExtentLine line, BlockNode node, VmdkHeader header, CancellationToken cancellationToken)
    {
        CheckSizes(line, header.Capacity, header.GrainSize, header.DirectoryEntries);
        VmdkGrainDirectory directory = await VmdkGrainDirectory.ReadAsync(node, header, cancellationToken)
            .ConfigureAwait(false);
        if (directory.Damage is { } damage)
        {
            context.Warn(damage);
        }

        bool writable = context.Flags.Writable && line.Access == VmdkAccess.ReadWrite;
        return new VmdkSparseExtent(guestStart, line, node, header, directory, _tables, writable);
    }

    private async ValueTask<VmdkExtent> MakeSeSparseAsync(
        long guestStart, VmdkExtentLine line, BlockNode node, VmdkSeSparseHeader header,
        CancellationToken cancellationToken)
    {
        CheckSizes(line, header.Capacity, VmdkSeSparseHeader.GrainSize, header.DirectoryEntries);
        return await VmdkSeSparseExtent.OpenAsync(guestStart, line, node, header, tableCacheBytes, cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>
    /// Split hosted disks may use less than an extent has. On ESX an extent is the disk: another size is another disk.
    /// </summary>
    private void CheckSizes(VmdkExtentLine line, long capacity, int grainSize, int directoryEntries)
    {
        bool isEsx = line.Type is VmdkExtentType.VmfsSparse or VmdkExtentType.SeSparse;
        if (line.Length > capacity || (isEsx && capacity - line.Length >= grainSize))
        {
            throw BlockException.Invalid(
                "the extent has another size than the descriptor says", null, $"{capacity} bytes", $"{line.Length}");
        }

        _directoryEntries += directoryEntries;
        if (_directoryEntries > VmdkLayout.MaxDirectoryEntries)
        {
            throw BlockException.Limit(
                "the grain directories are too large", _directoryEntries, VmdkLayout.MaxDirectoryEntries);
        }
    }

    /// <summary>Who asks for a writable disk learns here that it is none, not by the first write.</summary>
    private void CheckWritable(VmdkExtent[] extents)
    {
        if (!context.Flags.Writable)
        {
            return;
        }

        VmdkExtent? wrong = extents.FirstOrDefault(extent =>
            extent is { GrainSize: > 0, WhyReadOnly: not null, Line.Access: VmdkAccess.ReadWrite });
        if (wrong is null && extents.All(extent => extent.WhyNotWritten is not null))
        {
            wrong = extents[0];
        }

        if (whyNotWritten is not null || wrong is not null)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, whyNotWritten ?? wrong!.WhyNotWritten!)
            {
                Hint = "Open it read-only (--read-only), or with a temporary overlay for changes (--snapshot)."
                    + (whyNotWritten is null ? "" : " Or, if the next backup will be a full one: change-tracking=ignore."),
            };
        }
    }
}
