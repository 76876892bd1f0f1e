namespace ImageMount.Formats.Crypto;

/// <summary>
/// Encrypts a disk sector by sector, in place. Thread-safe; a warm call allocates nothing. The keys are overwritten when
/// it is disposed, which its owner does when no call is under way.
/// </summary>
public interface ISectorCipher : IDisposable
{
    /// <summary>Unit that is encrypted as one, bytes: a power of two, 512…4096.</summary>
    int SectorSize { get; }

    /// <summary>Decrypts whole sectors in place.</summary>
    /// <param name="sectorIndex">
    /// Number of the first, counted in 512 bytes whatever <see cref="SectorSize"/> is: what the initialisation vectors
    /// are made of.
    /// </param>
    /// <param name="data">A multiple of <see cref="SectorSize"/>.</param>
    void Decrypt(ulong sectorIndex, Span<byte> data);

    /// <summary>Encrypts whole sectors in place; parameters as for <see cref="Decrypt"/>.</summary>
    void Encrypt(ulong sectorIndex, Span<byte> data);
}
