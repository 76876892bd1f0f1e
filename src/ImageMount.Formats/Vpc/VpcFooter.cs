using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// The footer: the last sector of the file, and for dynamic and differencing disks the first one too. Either stands in
/// for the other when that is damaged.
/// </summary>
internal sealed record VpcFooter
{
    /// <summary>Where the checksum stands.</summary>
    public const int ChecksumOffset = 64;

    /// <summary>What the disk is.</summary>
    public required VpcType Type { get; init; }

    /// <summary>Where the header is; for fixed disks nowhere.</summary>
    public required ulong DataOffset { get; init; }

    /// <summary>Seconds since 2000.</summary>
    public required uint Timestamp { get; init; }

    /// <summary>Who made the disk, four characters.</summary>
    public required uint Creator { get; init; }

    /// <summary>"Current Size", bytes.</summary>
    public required ulong CurrentSize { get; init; }

    /// <summary>Cylinders.</summary>
    public required int Cylinders { get; init; }

    /// <summary>Heads.</summary>
    public required int Heads { get; init; }

    /// <summary>Sectors per track.</summary>
    public required int SectorsPerTrack { get; init; }

    /// <summary>Who the disk is.</summary>
    public required Guid UniqueId { get; init; }

    /// <summary>The 512 bytes as they are to be written where one is missing.</summary>
    public required byte[] Bytes { get; init; }

    /// <summary>Bytes of the footer at the end of the file: 512, 511, or 0 where there is none that is sound.</summary>
    public int TailSize { get; init; }

    /// <summary>The copy at the start is sound.</summary>
    public bool HasHead { get; init; }

    /// <summary>Sectors by the geometry.</summary>
    public long GeometrySectors => (long)Cylinders * Heads * SectorsPerTrack;

    /// <summary>The creator as text.</summary>
    public string CreatorText
    {
        get
        {
            Span<byte> bytes = stackalloc byte[4];
            BinaryPrimitives.WriteUInt32BigEndian(bytes, Creator);
            string text = Encoding.Latin1.GetString(bytes);
            return string.Concat(text.Select(c => c is >= ' ' and <= '~' ? c : '.')).TrimEnd();
        }
    }

    /// <summary>How sure one may be that this is a disk.</summary>
    public static int Probe(ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail, long length)
    {
        // A fixed disk is known by its end only, and an end that fits is worth more than a start: the start is the
        // guest's.
        bool hasTail = TryParse(tail, out VpcFooter? footer) || (tail.Length > 0 && TryParse(tail[1..], out footer));
        bool hasHead = HasCookie(head);
        return hasHead ? 100 : !hasTail ? 0 : IsWhole(footer!, length) ? 95 : 60;
    }

    /// <summary>Reads both, and says what is damaged.</summary>
    public static async ValueTask<VpcFooter> ReadAsync(
        BlockNode file, Action<string> warn, CancellationToken cancellationToken)
    {
        byte[] head = await ReadAsync(file, 0, cancellationToken).ConfigureAwait(false);
        byte[] tail = await ReadAsync(file, Math.Max(0, file.Length - VpcLayout.FooterSize), cancellationToken)
            .ConfigureAwait(false);
        bool hasHead = TryParse(head, out VpcFooter? first);
        int tailSize = TryParse(tail, out VpcFooter? last) ? VpcLayout.FooterSize : 0;
        if (tailSize == 0 && tail.Length > 0 && TryParse(tail.AsSpan(1), out last))
        {
            tailSize = VpcLayout.FooterSize - 1;
        }

        if (tailSize != 0 && last!.Type == VpcType.Fixed && (!hasHead || IsWhole(last, file.Length)))
        {
            return last with { TailSize = tailSize };
        }

        if (hasHead && first!.Type != VpcType.Fixed)
        {
            bool same = tailSize == VpcLayout.FooterSize && last!.UniqueId == first.UniqueId;
            if (!same)
            {
                warn("the footer at the end of the file is damaged or missing; its copy at the start is used");
            }

            return first with { HasHead = true, TailSize = same ? tailSize : 0 };
        }

        if (tailSize != 0)
        {
            warn("the copy of the footer at the start of the file is damaged; the footer at the end is used");
            return last! with { TailSize = tailSize };
        }

        throw HasCookie(head) || HasCookie(tail)
            ? BlockException.Invalid("the footer is damaged, and so is its copy", file.Length - VpcLayout.FooterSize)
            : BlockException.Invalid("this is not a VHD image: it has no footer", file.Length);
    }

    /// <summary>Makes the bytes of a footer.</summary>
    public static byte[] Make(VpcRawFooter raw)
    {
        var bytes = new byte[VpcLayout.FooterSize];
        raw.Cookie = VpcLayout.FooterCookie;
        raw.Version = VpcLayout.Version;
        raw.Checksum = 0;
        MemoryMarshal.Write(bytes, in raw);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(ChecksumOffset), VpcLayout.Checksum(bytes, ChecksumOffset));
        return bytes;
    }

    /// <summary>Parses a footer whose checksum holds.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, out VpcFooter? footer)
    {
        footer = null;
        var reader = new SpanReader(bytes);
        if (bytes.Length is not (VpcLayout.FooterSize or VpcLayout.FooterSize - 1)
            || !reader.TryRead(out VpcRawFooter raw) || raw.Cookie != VpcLayout.FooterCookie
            || raw.Checksum != VpcLayout.Checksum(bytes, ChecksumOffset)
            || raw.Type.Value is < (uint)VpcType.Fixed or > (uint)VpcType.Differencing)
        {
            return false;
        }

        var copy = new byte[VpcLayout.FooterSize];
        bytes.CopyTo(copy);
        footer = new VpcFooter
        {
            Type = (VpcType)raw.Type.Value,
            DataOffset = raw.DataOffset,
            Timestamp = raw.Timestamp,
            Creator = raw.CreatorApplication,
            CurrentSize = raw.CurrentSize,
            Cylinders = raw.Cylinders,
            Heads = raw.Heads,
            SectorsPerTrack = raw.SectorsPerTrack,
            UniqueId = new Guid(((ReadOnlySpan<byte>)raw.UniqueId)[..16], bigEndian: true),
            Bytes = copy,
        };
        return true;
    }

    /// <summary>True when these bytes at least begin as a footer.</summary>
    public static bool HasCookie(ReadOnlySpan<byte> bytes)
    {
        var reader = new SpanReader(bytes);
        return reader.TryRead(out Be64 cookie) && cookie == VpcLayout.FooterCookie;
    }

    /// <summary>True when a fixed disk and its footer are exactly the file, by either way of counting.</summary>
    private static bool IsWhole(VpcFooter footer, long length)
    {
        ulong data = (ulong)Math.Max(0, length - VpcLayout.FooterSize);
        return footer.Type == VpcType.Fixed && (footer.CurrentSize == data
            || (ulong)footer.GeometrySectors * VpcLayout.SectorSize == data);
    }

    private static async ValueTask<byte[]> ReadAsync(BlockNode file, long offset, CancellationToken cancellationToken)
    {
        int count = (int)Math.Min(VpcLayout.FooterSize, file.Length - offset);
        using BufferLease bytes = BufferPool.Shared.Rent(VpcLayout.FooterSize);
        await file.ReadAsync(offset, bytes.Memory[..count], cancellationToken).ConfigureAwait(false);
        return bytes.Span[..count].ToArray();
    }
}
