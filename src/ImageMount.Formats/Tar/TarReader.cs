using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Tar;

/// <summary>A file in an archive.</summary>
/// <param name="Name">Its name, without "./" before it.</param>
/// <param name="Offset">Where its content begins, bytes.</param>
/// <param name="Size">Bytes of its content.</param>
/// <param name="WhyNot">Why it cannot be shown, or null.</param>
internal sealed record TarMember(string Name, long Offset, long Size, string? WhyNot);

/// <summary>Goes from header to header of an archive, and lists its files.</summary>
internal sealed class TarReader(BlockNode file)
{
    private readonly Dictionary<string, TarMember> _members = new(StringComparer.Ordinal);
    private string? _longName;
    private TarPax _pax;

    /// <summary>
    /// The files, in order. Of several with one name the last counts, as when the archive is unpacked.
    /// </summary>
    public async ValueTask<IReadOnlyList<TarMember>> ReadAsync(CancellationToken cancellationToken)
    {
        using BufferLease block = BufferPool.Shared.Rent(TarLayout.BlockSize);
        long at = 0;
        for (int headers = 0; at < file.Length; headers++)
        {
            if (headers == TarLayout.MaxHeaders)
            {
                throw BlockException.Limit("the archive has too many members", headers + 1, TarLayout.MaxHeaders, at);
            }

            cancellationToken.ThrowIfCancellationRequested();
            if (at > file.Length - TarLayout.BlockSize)
            {
                throw BlockException.Invalid("the archive ends in the middle of a header", at);
            }

            await file.ReadAsync(at, block.Memory, cancellationToken).ConfigureAwait(false);
            if (!block.Span.ContainsAnyExcept((byte)0))
            {
                break; // Blocks of zeroes end an archive.
            }

            try
            {
                at = await TakeAsync(at + TarLayout.BlockSize, TarHeader.Read(block.Span), cancellationToken)
                    .ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                e.Offset ??= at;
                throw;
            }
        }

        return [.. _members.Values.OrderBy(member => member.Offset)];
    }

    /// <summary>Refuses names that nobody gives.</summary>
    public static void CheckName(long length)
    {
        if (length > TarLayout.MaxNameLength)
        {
            throw BlockException.Limit("the name of a member is too long", length, TarLayout.MaxNameLength);
        }
    }

    /// <summary>Looks at one member; gives the place of the next header.</summary>
    private async ValueTask<long> TakeAsync(long at, TarHeader header, CancellationToken cancellationToken)
    {
        bool isExtension = header.Type is TarLayout.TypePax or TarLayout.TypePaxGlobal or TarLayout.TypeLongName
            or TarLayout.TypeLongLink;
        long size = header.HasContent ? header.Size : 0;
        if (!isExtension && header.HasContent && _pax.Size is { } paxSize)
        {
            size = paxSize;
        }

        if (header.Type == TarLayout.TypeSparse)
        {
            at = await SkipSparseMapAsync(at, cancellationToken).ConfigureAwait(false);
        }

        if (size > file.Length - at)
        {
            throw BlockException.Invalid(
                $"the archive ends inside its member '{Shown(header.Name)}'", null, $"{file.Length - at} bytes",
                $"{size}");
        }

        switch (header.Type)
        {
            case TarLayout.TypeLongName:
                CheckName(size - 1); // with its NUL
                using (BufferLease name = await ReadContentAsync(at, size, cancellationToken).ConfigureAwait(false))
                {
                    _longName = TarHeader.Text(name.Span);
                }

                break;
            case TarLayout.TypePax:
                if (size > TarLayout.MaxExtendedHeader)
                {
                    throw BlockException.Limit("an extended tar header is too long", size, TarLayout.MaxExtendedHeader);
                }

                using (BufferLease records = await ReadContentAsync(at, size, cancellationToken).ConfigureAwait(false))
                {
                    _pax = TarPax.Read(records.Span);
                }

                break;
            case TarLayout.TypePaxGlobal or TarLayout.TypeLongLink:
                break; // Says nothing that matters here.
            default:
                TakeMember(at, size, header);
                break;
        }

        // Padding may be missing after the last member of a cut archive; then the next header is missing too.
        long padded = (size + TarLayout.BlockSize - 1) & -(long)TarLayout.BlockSize;
        return Math.Min(file.Length, at + padded);
    }

    private void TakeMember(long at, long size, TarHeader header)
    {
        string name = _pax.Path ?? _longName ?? header.Name;
        string? whyNot = header.Type switch
        {
            TarLayout.TypeSparse => "it is stored as a sparse file, which cannot be shown in place",
            TarLayout.TypeMultiVolume => "it began in another volume of the archive",
            _ when _pax.IsSparse => "it is stored as a sparse file, which cannot be shown in place",
            _ => null,
        };
        _pax = default;
        _longName = null;
        if (!header.IsFile && whyNot is null)
        {
            return;
        }

        name = Plain(name);
        if (_members.Count == TarLayout.MaxMembers && !_members.ContainsKey(name))
        {
            throw BlockException.Limit("the archive has too many files", _members.Count + 1, TarLayout.MaxMembers);
        }

        _members[name] = new TarMember(name, at, size, whyNot);
    }

    /// <summary>
    /// The old sparse format continues its map in blocks that the size does not count. Gives the place after them.
    /// </summary>
    private async ValueTask<long> SkipSparseMapAsync(long at, CancellationToken cancellationToken)
    {
        var flag = new byte[1];
        for (int inBlock = TarLayout.SparseExtendedAt; at < file.Length; inBlock = TarLayout.MapExtendedAt)
        {
            await file.ReadAsync(at - TarLayout.BlockSize + inBlock, flag, cancellationToken).ConfigureAwait(false);
            if (flag[0] == 0)
            {
                break;
            }

            at += TarLayout.BlockSize;
        }

        return at;
    }

    private async ValueTask<BufferLease> ReadContentAsync(long at, long size, CancellationToken cancellationToken)
    {
        BufferLease content = BufferPool.Shared.Rent((int)size);
        try
        {
            await file.ReadAsync(at, content.Memory, cancellationToken).ConfigureAwait(false);
            return content;
        }
        catch
        {
            content.Dispose();
            throw;
        }
    }

    /// <summary>A name as people write it.</summary>
    internal static string Plain(string name)
    {
        while (name.StartsWith("./", StringComparison.Ordinal))
        {
            name = name[2..];
        }

        return name;
    }

    /// <summary>A name for a message: nothing but what can be printed, not too much of it.</summary>
    internal static string Shown(string name)
    {
        const int Longest = 200;
        string shown = string.Concat(name.Take(Longest).Select(c => char.IsControl(c) ? '\uFFFD' : c));
        return name.Length > Longest ? shown + "…" : shown;
    }
}
