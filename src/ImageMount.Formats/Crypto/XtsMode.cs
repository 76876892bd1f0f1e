using System.Buffers.Binary;

namespace ImageMount.Formats.Crypto;

/// <summary>XTS (IEEE 1619) over any cipher with 16-byte blocks.</summary>
internal sealed class XtsMode(BlockTransform data, BlockTransform tweak, IvGenerator vectors, int sectorSize)
    : ISectorCipher
{
    private const int BlockSize = 16;
    private const int Piece = 512;

    /// <inheritdoc/>
    public int SectorSize => sectorSize;

    /// <inheritdoc/>
    public void Decrypt(ulong sectorIndex, Span<byte> bytes) => Run(sectorIndex, bytes, decrypt: true);

    /// <inheritdoc/>
    public void Encrypt(ulong sectorIndex, Span<byte> bytes) => Run(sectorIndex, bytes, decrypt: false);

    /// <inheritdoc/>
    public void Dispose()
    {
        data.Dispose();
        tweak.Dispose();
        vectors.Dispose();
    }

    private void Run(ulong sectorIndex, Span<byte> bytes, bool decrypt)
    {
        Span<byte> first = stackalloc byte[BlockSize];
        Span<byte> tweaks = stackalloc byte[Piece];
        for (int at = 0; at < bytes.Length; at += sectorSize, sectorIndex += (uint)sectorSize / 512)
        {
            vectors.Fill(sectorIndex, first);
            tweak.Encrypt(first);
            UInt128 next = BinaryPrimitives.ReadUInt128LittleEndian(first);
            for (int from = 0; from < sectorSize; from += Piece)
            {
                for (int i = 0; i < Piece; i += BlockSize)
                {
                    BinaryPrimitives.WriteUInt128LittleEndian(tweaks[i..], next);
                    next = (next << 1) ^ ((next >> 127) * 0x87);
                }

                Span<byte> piece = bytes.Slice(at + from, Piece);
                Xor.Into(piece, tweaks);
                if (decrypt)
                {
                    data.Decrypt(piece);
                }
                else
                {
                    data.Encrypt(piece);
                }

                Xor.Into(piece, tweaks);
            }
        }
    }
}
