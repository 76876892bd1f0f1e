using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.EncrCdsa;

/// <summary>
/// The decrypted content: AES in CBC mode chunk by chunk, the initial vector of each being the HMAC-SHA1 of its number.
/// </summary>
/// <remarks>
/// Decrypting CBC is decrypting every block on its own and then adding (xor) the encrypted block before it, so a
/// request is one call of the cipher however many chunks it has, and the rest is vector arithmetic.
/// </remarks>
internal sealed class EncrCdsaDevice : BlockDevice
{
    private const int AesBlock = 16;
    private readonly BlockNode _file;
    private readonly EncrCdsaHeader _header;
    private readonly Secret _keys;
    private readonly BlockTransform _cipher;

    /// <summary>Makes the device, which owns the keys.</summary>
    public EncrCdsaDevice(BlockNode file, EncrCdsaHeader header, Secret keys)
    {
        _file = file;
        _header = header;
        _keys = keys;
        _cipher = BlockTransform.OfAes(keys.Span[..header.KeySize], AesKeys.IsSupported);
        Children = [new BlockChild("file", file)];
        Limits = BlockLimits.Default with { RequestAlignment = header.ChunkSize, MaxTransfer = 1 << 20 };
    }

    /// <inheritdoc/>
    public override long Length => _header.DataSize;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        // A request that ends at the end of the content may end inside a block of the cipher.
        int whole = (buffer.Length + AesBlock - 1) & -AesBlock;
        using BufferLease encrypted = BufferPool.Shared.Rent(whole);
        await _file.ReadAsync(_header.DataOffset + offset, encrypted.Memory, cancellationToken).ConfigureAwait(false);
        if (whole == buffer.Length)
        {
            Decrypt(offset, encrypted.Span, buffer.Span);
            return;
        }

        using BufferLease decrypted = BufferPool.Shared.Rent(whole);
        Decrypt(offset, encrypted.Span, decrypted.Span);
        decrypted.Span[..buffer.Length].CopyTo(buffer.Span);
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.Encrypted = true;
        info.FormatSpecific.Add(new("chunk-size", (long)_header.ChunkSize));
        info.FormatSpecific.Add(new("cipher", $"aes-{8 * _header.KeySize}-cbc"));
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        _cipher.Dispose();
        _keys.Dispose();
        return default;
    }

    private void Decrypt(long offset, ReadOnlySpan<byte> encrypted, Span<byte> decrypted)
    {
        encrypted.CopyTo(decrypted);
        _cipher.Decrypt(decrypted);
        Span<byte> vector = stackalloc byte[HMACSHA1.HashSizeInBytes];
        Span<byte> number = stackalloc byte[sizeof(uint)];
        uint chunk = (uint)(offset / _header.ChunkSize);
        for (int at = 0; at < encrypted.Length; at += _header.ChunkSize, chunk++)
        {
            int count = Math.Min(_header.ChunkSize, encrypted.Length - at);
            BinaryPrimitives.WriteUInt32BigEndian(number, chunk);
            HMACSHA1.HashData(_keys.Span[_header.KeySize..], number, vector);
            Xor(decrypted.Slice(at, AesBlock), vector[..AesBlock]);
            Xor(decrypted.Slice(at + AesBlock, count - AesBlock), encrypted.Slice(at, count - AesBlock));
        }
    }

    private static void Xor(Span<byte> target, ReadOnlySpan<byte> with)
    {
        Span<Vector<byte>> vectors = MemoryMarshal.Cast<byte, Vector<byte>>(target);
        ReadOnlySpan<Vector<byte>> others = MemoryMarshal.Cast<byte, Vector<byte>>(with);
        for (int i = 0; i < vectors.Length; i++)
        {
            vectors[i] ^= others[i];
        }

        for (int i = vectors.Length * Vector<byte>.Count; i < target.Length; i++)
        {
            target[i] ^= with[i];
        }
    }
}
