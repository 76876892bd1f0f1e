using ImageMount.Core.Block;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// How much work an image may ask for before its key is known. Every cost of deriving keys is a number in the image, so
/// without a limit a small file could keep a processor busy for hours.
/// </summary>
internal sealed class KdfBudget
{
    /// <summary>
    /// Rounds of a hash for PBKDF2, all key slots that are tried together: some twenty seconds.
    /// </summary>
    public const long MaxRounds = 64 << 20;

    /// <summary>KiB that Argon2 goes through, memory times passes, all key slots together: as long.</summary>
    public const long MaxKiBPasses = 32L << 20;

    /// <summary>Most memory for Argon2, KiB; the limit of the LUKS2 format.</summary>
    public const int MaxMemoryKiB = 4 << 20;

    private long _rounds;
    private long _passes;

    /// <summary>Accounts for a PBKDF2.</summary>
    /// <param name="iterations">Iterations.</param>
    /// <param name="keySize">Bytes to derive.</param>
    /// <param name="hashSize">Bytes of the hash.</param>
    public void SpendPbkdf2(int iterations, int keySize, int hashSize)
    {
        _rounds += (long)iterations * ((keySize + hashSize - 1) / hashSize);
        if (_rounds > MaxRounds)
        {
            throw TooMuch("iterations", _rounds, MaxRounds);
        }
    }

    /// <summary>Accounts for an Argon2.</summary>
    public void SpendArgon2(int memoryKiB, int passes)
    {
        long half = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 2 >> 10;
        if (memoryKiB > Math.Min(MaxMemoryKiB, half))
        {
            throw TooMuch("memory (KiB)", memoryKiB, Math.Min(MaxMemoryKiB, half));
        }

        _passes += (long)memoryKiB * passes;
        if (_passes > MaxKiBPasses)
        {
            throw TooMuch("passes over memory (KiB)", _passes, MaxKiBPasses);
        }
    }

    private static BlockException TooMuch(string what, long found, long limit) =>
        new(BlockErrorKind.LimitExceeded, $"unlocking the image takes too many {what}")
        {
            Found = found.ToString(System.Globalization.CultureInfo.InvariantCulture),
            Expected = $"at most {limit}",
            Hint = "If its key slots are many and slow, name the one that your passphrase opens: keyslot=N.",
        };
}
