using System.Security.Cryptography;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Parallels;

/// <summary>A dirty bitmap of the format extension.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Granularity">Bytes that a bit stands for.</param>
internal sealed record ParallelsBitmap(Guid Id, long Granularity);

/// <summary>
/// The format extension: a cluster of features, of which dirty bitmaps are the only ones known. Bitmaps are for backup
/// programs that follow every write; who writes without following them has to drop them, so we do.
/// </summary>
internal sealed record ParallelsExtension
{
    /// <summary>The bitmaps.</summary>
    public required IReadOnlyList<ParallelsBitmap> Bitmaps { get; init; }

    /// <summary>End of the clusters that the extension and its bitmaps use.</summary>
    public required long End { get; init; }

    /// <summary>Reads it.</summary>
    /// <param name="file">The image.</param>
    /// <param name="header">Its header, which says that there is one.</param>
    /// <param name="warn">Told when it is damaged; null is returned then.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="BlockException">NotSupported: there is a feature that one has to know.</exception>
    public static async ValueTask<ParallelsExtension?> ReadAsync(
        BlockNode file, ParallelsHeader header, Action<string> warn, CancellationToken cancellationToken)
    {
        long offset = header.ExtensionOffset;
        long end = offset + header.ClusterSize;
        if (end > file.Length)
        {
            warn("the format extension lies outside the file and is left out");
            return null;
        }

        int count = Math.Min(header.ClusterSize, ParallelsLayout.MaxExtension);
        using BufferLease bytes = BufferPool.Shared.Rent(count);
        await file.ReadAsync(offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        if (!await IsSoundAsync(file, offset, header.ClusterSize, bytes.Memory, cancellationToken)
            .ConfigureAwait(false))
        {
            warn("the format extension is damaged (its checksum is wrong) and is left out");
            return null;
        }

        return Parse(bytes.Span, header, end);
    }

    private static async ValueTask<bool> IsSoundAsync(
        BlockNode file, long offset, int clusterSize, ReadOnlyMemory<byte> head, CancellationToken cancellationToken)
    {
        var reader = new SpanReader(head.Span);
        if (!reader.TryRead(out Le64 magic) || magic != ParallelsLayout.ExtensionMagic)
        {
            return false;
        }

        using var md5 = IncrementalHash.CreateHash(HashAlgorithmName.MD5);
        md5.AppendData(head.Span[ParallelsLayout.ExtensionHeaderSize..]);
        using BufferLease rest = BufferPool.Shared.Rent(ParallelsLayout.MaxExtension);
        for (int at = head.Length; at < clusterSize;)
        {
            Memory<byte> part = rest.Memory[..Math.Min(ParallelsLayout.MaxExtension, clusterSize - at)];
            await file.ReadAsync(offset + at, part, cancellationToken).ConfigureAwait(false);
            md5.AppendData(part.Span);
            at += part.Length;
        }

        return head.Span[8..ParallelsLayout.ExtensionHeaderSize].SequenceEqual(md5.GetHashAndReset());
    }

    private static ParallelsExtension Parse(ReadOnlySpan<byte> bytes, ParallelsHeader header, long end)
    {
        var bitmaps = new List<ParallelsBitmap>();
        var reader = new SpanReader(bytes);
        reader.TrySeek(ParallelsLayout.ExtensionHeaderSize);
        for (int i = 0; i < ParallelsLayout.MaxFeatures; i++)
        {
            if (!reader.TryRead(out ParallelsRawFeature feature) || feature.Magic == 0)
            {
                break;
            }

            if (!reader.TryTake((int)Math.Min(feature.DataSize, int.MaxValue), out ReadOnlySpan<byte> data))
            {
                throw BlockException.Invalid(
                    "a feature of the format extension is longer than its cluster",
                    header.ExtensionOffset + reader.Position);
            }

            if (feature.Magic == ParallelsLayout.DirtyBitmapFeature)
            {
                bitmaps.Add(ParseBitmap(data, header, ref end));
            }
            else if ((feature.Flags & ParallelsLayout.NecessaryFlag) != 0)
            {
                throw BlockException.Unsupported(
                    $"the image needs a feature that is not known (0x{feature.Magic.Value:x16})");
            }

            reader.TrySeek(Math.Min(bytes.Length, (reader.Position + 7) / 8 * 8));
        }

        return new ParallelsExtension { Bitmaps = bitmaps, End = end };
    }

    private static ParallelsBitmap ParseBitmap(ReadOnlySpan<byte> data, ParallelsHeader header, ref long end)
    {
        var reader = new SpanReader(data);
        if (!reader.TryRead(out ParallelsRawBitmap raw))
        {
            throw BlockException.Invalid("a dirty bitmap of the format extension is cut off", header.ExtensionOffset);
        }

        for (uint i = 0; i < raw.TableEntries && reader.TryRead(out Le64 sector); i++)
        {
            // 0 and 1 stand for clusters of zeroes and ones.
            if (sector > 1 && sector <= uint.MaxValue)
            {
                end = Math.Max(end, ((long)sector.Value * ParallelsLayout.SectorSize) + header.ClusterSize);
            }
        }

        return new ParallelsBitmap(
            new Guid(((ReadOnlySpan<byte>)raw.Id)[..16]),
            (long)raw.GranularitySectors.Value * ParallelsLayout.SectorSize);
    }
}
