using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>
/// Reads the two copies of a LUKS2 header (section 2): each is a binary block and a JSON text under one checksum. The
/// sound one with the higher sequence id counts; a crash while they are written leaves at least one.
/// </summary>
internal static class Luks2Header
{
    /// <summary>Reads a header whose first copy shows the magic.</summary>
    public static async ValueTask<LuksHeader> ReadAsync(LuksArea area, CancellationToken cancellationToken)
    {
        (byte[]? First, string? Damage) one = await TryReadCopyAsync(area, 0, isSecond: false, cancellationToken)
            .ConfigureAwait(false);
        int size = one.First?.Length ?? 0;
        (byte[]? Second, string? Damage) two = size != 0
            ? await TryReadCopyAsync(area, size, isSecond: true, cancellationToken).ConfigureAwait(false)
            : await SearchAsync(area, cancellationToken).ConfigureAwait(false);
        if (one.First is null && two.Second is null)
        {
            throw BlockException.Invalid($"both copies of the header are damaged: {one.Damage}", 0);
        }

        if (one.First is null)
        {
            return Parse(area, two.Second!, usedSecond: true, $"the first copy of the header: {one.Damage}");
        }

        ulong first = SequenceOf(one.First);
        ulong second = two.Second is null ? 0 : SequenceOf(two.Second);
        if (two.Second is not null && second > first)
        {
            return Parse(area, two.Second, usedSecond: true, "the first copy of the header is older than the second");
        }

        string? damage = two.Second is null ? $"the second copy of the header: {two.Damage}"
            : second < first ? "the second copy of the header is older than the first"
            : null;
        return Parse(area, one.First, usedSecond: false, damage);
    }

    /// <summary>Finds a header whose first copy does not even show the magic; null when there is none.</summary>
    public static async ValueTask<LuksHeader?> FindSecondAsync(LuksArea area, CancellationToken cancellationToken)
    {
        (byte[]? second, _) = await SearchAsync(area, cancellationToken).ConfigureAwait(false);
        return second is null ? null
            : Parse(area, second, usedSecond: true, "the first copy of the header is overwritten");
    }

    /// <summary>The checksum of a copy, as its own algorithm has it, over the whole with the field zero.</summary>
    public static byte[] Checksum(ReadOnlySpan<byte> copy, Hash hash)
    {
        byte[] bytes = copy.ToArray();
        bytes.AsSpan(LuksLayout.ChecksumField, LuksLayout.ChecksumFieldSize).Clear();
        var result = new byte[hash.Size];
        hash.Compute(bytes, result);
        return result;
    }

    private static ulong SequenceOf(byte[] copy) => MemoryMarshal.Read<Luks2Start>(copy).SequenceId;

    private static async ValueTask<(byte[]? Copy, string? Damage)> SearchAsync(
        LuksArea area, CancellationToken cancellationToken)
    {
        for (int size = LuksLayout.MinHeaderSizeV2; size <= LuksLayout.MaxHeaderSizeV2; size *= 2)
        {
            (byte[]? copy, _) = await TryReadCopyAsync(area, size, isSecond: true, cancellationToken)
                .ConfigureAwait(false);
            if (copy is not null)
            {
                return (copy, null);
            }
        }

        return (null, "not found");
    }

    private static async ValueTask<(byte[]? Copy, string? Damage)> TryReadCopyAsync(
        LuksArea area, long offset, bool isSecond, CancellationToken cancellationToken)
    {
        if (area.Length < offset + LuksLayout.BinaryHeaderSize)
        {
            return (null, "the file ends before it");
        }

        var binary = new byte[LuksLayout.BinaryHeaderSize];
        await area.ReadAsync(offset, binary, "the header", cancellationToken).ConfigureAwait(false);
        if (WhyNoCopy(binary, offset, isSecond) is { } reason)
        {
            return (null, reason);
        }

        int size = (int)MemoryMarshal.Read<Luks2Start>(binary).HeaderSize.Value;
        if (area.Length < offset + size)
        {
            return (null, "it is cut short");
        }

        var copy = new byte[size];
        await area.ReadAsync(offset, copy, "the header", cancellationToken).ConfigureAwait(false);
        Luks2Start start = MemoryMarshal.Read<Luks2Start>(copy);
        Hash hash = Hash.Get(LuksHeader.Text(start.ChecksumAlgorithm), offset + 72);
        return CryptographicOperations.FixedTimeEquals(
            Checksum(copy, hash), copy.AsSpan(LuksLayout.ChecksumField, hash.Size))
            ? (copy, null)
            : (null, "its checksum is wrong");
    }

    private static string? WhyNoCopy(ReadOnlySpan<byte> binary, long offset, bool isSecond)
    {
        Luks2Start start = MemoryMarshal.Read<Luks2Start>(binary);
        if (!binary.StartsWith(isSecond ? LuksLayout.SecondMagic : LuksLayout.Magic) || start.Version.Value != 2)
        {
            return "it does not begin as such";
        }

        ulong size = start.HeaderSize.Value;
        if (size is < LuksLayout.MinHeaderSizeV2 or > LuksLayout.MaxHeaderSizeV2 || !BitOperations.IsPow2(size))
        {
            return $"its size is wrong (0x{size:x})";
        }

        if (start.HeaderOffset.Value != (ulong)offset || (isSecond && size != (ulong)offset))
        {
            return $"it is not at its place (0x{start.HeaderOffset.Value:x})";
        }

        return Array.Exists(["sha1", "sha256", "sha384", "sha512"], n => n == LuksHeader.Text(start.ChecksumAlgorithm))
            ? null
            : "its checksum algorithm is not known";
    }

    private static LuksHeader Parse(LuksArea area, byte[] copy, bool usedSecond, string? damage)
    {
        Luks2Start start = MemoryMarshal.Read<Luks2Start>(copy);
        ReadOnlySpan<byte> text = JsonOf(copy);
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(text.ToArray(), new JsonDocumentOptions
            {
                MaxDepth = LuksLayout.MaxJsonDepth,
                AllowDuplicateProperties = false,
            });
        }
        catch (JsonException e)
        {
            throw new BlockException(BlockErrorKind.InvalidData, $"the metadata is not valid JSON: {e.Message}", e)
            {
                Offset = (usedSecond ? copy.Length : 0) + LuksLayout.BinaryHeaderSize,
            };
        }

        using (document)
        {
            var json = new Luks2Json(document.RootElement, copy.Length, area.Length);
            return new LuksHeader
            {
                Version = 2,
                Uuid = LuksHeader.Text(start.Uuid),
                Label = LuksHeader.Text(start.Label),
                KeySize = json.KeySize,
                Slots = json.Slots,
                Digests = json.Digests,
                Segments = json.Segments,
                Copies = new Luks2Copies(copy.Length, start.SequenceId, usedSecond, damage, copy),
            };
        }
    }

    /// <summary>The JSON text of a copy, without the zeroes behind it.</summary>
    public static ReadOnlySpan<byte> JsonOf(ReadOnlySpan<byte> copy)
    {
        ReadOnlySpan<byte> text = copy[LuksLayout.BinaryHeaderSize..];
        int end = text.IndexOf((byte)0);
        return end < 0 ? text : text[..end];
    }
}
