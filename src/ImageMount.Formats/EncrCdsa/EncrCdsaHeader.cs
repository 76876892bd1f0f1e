using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.EncrCdsa;

/// <summary>Where a passphrase's key entry is in the file.</summary>
internal readonly record struct EncrCdsaKeyPlace(long Offset, int Length);

/// <summary>What the header says, validated; every place in it lies inside the file.</summary>
internal sealed record EncrCdsaHeader
{
    private const int MaxKeyLength = 4096;

    /// <summary>Bytes that are encrypted as one; a power of two.</summary>
    public required int ChunkSize { get; init; }

    /// <summary>Bytes of the content.</summary>
    public required long DataSize { get; init; }

    /// <summary>Where the content begins.</summary>
    public required long DataOffset { get; init; }

    /// <summary>Bytes of the AES key.</summary>
    public required int KeySize { get; init; }

    /// <summary>Entries that a passphrase can open; at least one.</summary>
    public required IReadOnlyList<EncrCdsaKeyPlace> Keys { get; init; }

    /// <summary>Reads and validates the header.</summary>
    public static async ValueTask<EncrCdsaHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int length = (int)Math.Min(file.Length, 4096);
        using BufferLease bytes = BufferPool.Shared.Rent(4096);
        await file.ReadAsync(file.Length - Math.Min(8, length), bytes.Memory[..Math.Min(8, length)], cancellationToken)
            .ConfigureAwait(false);
        bool isVersion1 = length >= 8 && bytes.Span.StartsWith(EncrCdsaLayout.Version1Magic);
        await file.ReadAsync(0, bytes.Memory[..length], cancellationToken).ConfigureAwait(false);
        var reader = new SpanReader(bytes.Span[..length]);
        if (!reader.TryTake(8, out ReadOnlySpan<byte> magic) || !magic.SequenceEqual(EncrCdsaLayout.Magic))
        {
            throw isVersion1
                ? BlockException.Unsupported(
                    "encrypted disk images of version 1 ('cdsaencr', before Mac OS X 10.5)",
                    "Convert it on a Mac: hdiutil convert OLD -format UDZO -encryption -o NEW")
                : BlockException.Invalid("this is not an encrypted disk image", 0, null, "'encrcdsa'");
        }

        if (!reader.TryRead(out EncrCdsaStoredHeader stored))
        {
            throw BlockException.Invalid("the file ends inside the header", length);
        }

        return Validate(stored, ReadKeys(stored, ref reader, file.Length), file.Length);
    }

    private static List<EncrCdsaKeyPlace> ReadKeys(
        in EncrCdsaStoredHeader stored, ref SpanReader reader, long fileLength)
    {
        var keys = new List<EncrCdsaKeyPlace>();
        if (stored.KeyCount > EncrCdsaLayout.MaxKeys)
        {
            throw BlockException.Limit("the image has too many keys", stored.KeyCount, EncrCdsaLayout.MaxKeys, 72);
        }

        for (uint i = 0; i < stored.KeyCount; i++)
        {
            int at = reader.Position;
            if (!reader.TryRead(out EncrCdsaKeyPointer pointer))
            {
                throw BlockException.Invalid("the file ends inside the list of keys", at);
            }

            if (pointer.Length > (ulong)fileLength || pointer.Offset > (ulong)fileLength - pointer.Length)
            {
                throw BlockException.Invalid($"key {i} lies outside the file", at + 4,
                    $"{pointer.Length} bytes at 0x{pointer.Offset:x}", $"inside {fileLength} bytes");
            }

            if (pointer.Type == EncrCdsaLayout.PassphraseKey)
            {
                keys.Add(new EncrCdsaKeyPlace(
                    (long)pointer.Offset.Value, (int)Math.Min(pointer.Length, MaxKeyLength)));
            }
        }

        return keys.Count > 0 ? keys : throw BlockException.Unsupported(
            "encrypted disk images that only a certificate opens, no passphrase");
    }

    private static EncrCdsaHeader Validate(
        in EncrCdsaStoredHeader stored, IReadOnlyList<EncrCdsaKeyPlace> keys, long fileLength)
    {
        if (stored.Version != EncrCdsaLayout.Version)
        {
            throw BlockException.Unsupported(
                $"version {stored.Version} of encrypted disk images (supported: {EncrCdsaLayout.Version})");
        }

        if (stored.Algorithm != EncrCdsaLayout.AlgorithmAes || stored.KeyBits.Value is not (128 or 256)
            || stored.IvSize != 16 || stored.IvKeyBits != 8 * EncrCdsaLayout.HmacKeySize)
        {
            throw BlockException.Unsupported(
                $"the cipher 0x{stored.Algorithm:x} with {stored.KeyBits} bits, vectors of {stored.IvSize} bytes from "
                + $"keys of {stored.IvKeyBits} bits (supported: AES with 128 or 256 bits, 16 bytes, 160 bits)");
        }

        uint chunk = stored.ChunkSize;
        if (chunk < EncrCdsaLayout.MinChunk || chunk > EncrCdsaLayout.MaxChunk || (chunk & (chunk - 1)) != 0)
        {
            throw BlockException.Invalid("the size of a chunk is impossible", 52, $"{chunk}",
                $"a power of two, {EncrCdsaLayout.MinChunk} to {EncrCdsaLayout.MaxChunk}");
        }

        // The last chunk may be cut off, but not within a block of the cipher.
        ulong available = (ulong)fileLength - Math.Min(stored.DataOffset, (ulong)fileLength);
        if (stored.DataSize > long.MaxValue - 15 || (stored.DataSize + 15 & ~15UL) > available)
        {
            throw BlockException.Invalid("the content lies outside the file", 56,
                $"{stored.DataSize} bytes at 0x{stored.DataOffset:x}", $"inside {fileLength} bytes");
        }

        if (stored.DataSize / chunk > uint.MaxValue)
        {
            throw BlockException.Invalid(
                "the content has more chunks than can be numbered", 56, $"{stored.DataSize} bytes");
        }

        return new EncrCdsaHeader
        {
            ChunkSize = (int)chunk,
            DataSize = (long)stored.DataSize.Value,
            DataOffset = (long)stored.DataOffset.Value,
            KeySize = (int)stored.KeyBits.Value / 8,
            Keys = keys,
        };
    }
}
