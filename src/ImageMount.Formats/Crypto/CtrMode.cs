namespace ImageMount.Formats.Crypto;

/// <summary>Counter mode: the vector of the sector, counted up as a big-endian number, gives the key stream.</summary>
internal sealed class CtrMode(BlockTransform cipher, IvGenerator vectors, int sectorSize) : ISectorCipher
{
    private const int Piece = 512;

    /// <inheritdoc/>
    public int SectorSize => sectorSize;

    /// <inheritdoc/>
    public void Decrypt(ulong sectorIndex, Span<byte> data) => Encrypt(sectorIndex, data);

    /// <inheritdoc/>
    public void Encrypt(ulong sectorIndex, Span<byte> data)
    {
        int block = cipher.BlockSize;
        Span<byte> counter = stackalloc byte[BlockTransform.MaxBlockSize];
        counter = counter[..block];
        Span<byte> stream = stackalloc byte[Piece];
        for (int at = 0; at < data.Length; at += sectorSize, sectorIndex += (uint)sectorSize / 512)
        {
            vectors.Fill(sectorIndex, counter);
            for (int from = 0; from < sectorSize; from += Piece)
            {
                for (int i = 0; i < Piece; i += block)
                {
                    counter.CopyTo(stream[i..]);
                    for (int digit = block - 1; digit >= 0 && ++counter[digit] == 0; digit--)
                    {
                        // Carried into the next digit.
                    }
                }

                cipher.Encrypt(stream);
                Xor.Into(data.Slice(at + from, Piece), stream);
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
