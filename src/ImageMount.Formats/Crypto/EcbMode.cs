namespace ImageMount.Formats.Crypto;

/// <summary>Each block on its own: equal blocks stay recognisable. Only because such images exist.</summary>
internal sealed class EcbMode(BlockTransform cipher, int sectorSize) : ISectorCipher
{
    /// <inheritdoc/>
    public int SectorSize => sectorSize;

    /// <inheritdoc/>
    public void Decrypt(ulong sectorIndex, Span<byte> data) => cipher.Decrypt(data);

    /// <inheritdoc/>
    public void Encrypt(ulong sectorIndex, Span<byte> data) => cipher.Encrypt(data);

    /// <inheritdoc/>
    public void Dispose() => cipher.Dispose();
}
