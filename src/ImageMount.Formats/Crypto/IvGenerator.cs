using System.Buffers.Binary;

namespace ImageMount.Formats.Crypto;

/// <summary>How the initialisation vector of a sector is made.</summary>
public enum IvKind
{
    /// <summary>Zeroes ("null").</summary>
    Null,

    /// <summary>The low 32 bits of the sector's number, little-endian ("plain").</summary>
    Plain,

    /// <summary>The sector's number, little-endian ("plain64").</summary>
    Plain64,

    /// <summary>The sector's number, big-endian, at the end ("plain64be").</summary>
    Plain64Be,

    /// <summary>The sector's number, little-endian, encrypted with a hash of the key ("essiv").</summary>
    Essiv,
}

/// <summary>Makes initialisation vectors from sector numbers; thread-safe.</summary>
internal sealed class IvGenerator(IvKind kind, BlockTransform? essiv) : IDisposable
{
    /// <summary>Fills a vector of the cipher's block size.</summary>
    public void Fill(ulong sectorIndex, Span<byte> vector)
    {
        vector.Clear();
        switch (kind)
        {
            case IvKind.Plain:
                BinaryPrimitives.WriteUInt32LittleEndian(vector, (uint)sectorIndex);
                break;
            case IvKind.Plain64:
                BinaryPrimitives.WriteUInt64LittleEndian(vector, sectorIndex);
                break;
            case IvKind.Plain64Be:
                BinaryPrimitives.WriteUInt64BigEndian(vector[^8..], sectorIndex);
                break;
            case IvKind.Essiv:
                BinaryPrimitives.WriteUInt64LittleEndian(vector, sectorIndex);
                essiv!.Encrypt(vector);
                break;
            default:
                break;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => essiv?.Dispose();
}
