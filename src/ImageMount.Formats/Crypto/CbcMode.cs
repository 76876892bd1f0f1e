namespace ImageMount.Formats.Crypto;

/// <summary>Cipher block chaining, anew in each sector.</summary>
internal sealed class CbcMode(BlockTransform cipher, IvGenerator vectors, int sectorSize) : ISectorCipher
{
    private const int Piece = 512;

    /// <inheritdoc/>
    public int SectorSize => sectorSize;

    /// <inheritdoc/>
    public void Decrypt(ulong sectorIndex, Span<byte> data)
    {
        // What was encrypted is needed once more: the block before each is added to it afterwards.
        int block = cipher.BlockSize;
        Span<byte> before = stackalloc byte[BlockTransform.MaxBlockSize + Piece];
        for (int at = 0; at < data.Length; at += sectorSize, sectorIndex += (uint)sectorSize / 512)
        {
            vectors.Fill(sectorIndex, before[..block]);
            for (int from = 0; from < sectorSize; from += Piece)
            {
                Span<byte> piece = data.Slice(at + from, Piece);
                piece.CopyTo(before[block..]);
                cipher.Decrypt(piece);
                Xor.Into(piece, before[..Piece]);
                before.Slice(Piece, block).CopyTo(before);
            }
        }
    }

    /// <inheritdoc/>
    public void Encrypt(ulong sectorIndex, Span<byte> data)
    {
        int block = cipher.BlockSize;
        Span<byte> vector = stackalloc byte[BlockTransform.MaxBlockSize];
        vector = vector[..block];
        for (int at = 0; at < data.Length; at += sectorSize, sectorIndex += (uint)sectorSize / 512)
        {
            vectors.Fill(sectorIndex, vector);
            ReadOnlySpan<byte> chain = vector;
            for (int from = at; from < at + sectorSize; from += block)
            {
                Span<byte> here = data.Slice(from, block);
                Xor.Into(here, chain);
                cipher.Encrypt(here);
                chain = here;
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        cipher.Dispose();
        vectors.Dispose();
    }
}
