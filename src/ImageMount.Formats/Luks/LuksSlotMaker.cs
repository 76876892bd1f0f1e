using System.Security.Cryptography;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>What the user wants of the function that makes keys of passphrases.</summary>
/// <param name="Kind">Function.</param>
/// <param name="Hash">Hash of PBKDF2.</param>
/// <param name="IterTimeMs">How long unlocking may take.</param>
/// <param name="Iterations">Exactly so many iterations or passes, instead.</param>
/// <param name="MemoryKiB">Memory of Argon2; null: by the time.</param>
internal readonly record struct LuksKdfWish(
    LuksPbkdf Kind, string Hash, int IterTimeMs, int? Iterations, int? MemoryKiB)
{
    /// <summary>Makes it exact, with a new salt.</summary>
    public LuksKdf Choose(int keySize)
    {
        byte[] salt = RandomNumberGenerator.GetBytes(LuksLayout.SaltSize);
        if (Kind == LuksPbkdf.Pbkdf2)
        {
            Hash hash = Crypto.Hash.Get(Hash);
            return new LuksKdf(
                Kind, hash.Name, Iterations ?? KdfBenchmark.Pbkdf2(hash, keySize, IterTimeMs), 0, 0, salt);
        }

        (int passes, int memory, int lanes) = Iterations is { } exact && MemoryKiB is { } kib
            ? (exact, kib, Math.Clamp(Environment.ProcessorCount, 1, Math.Min(4, kib / 8)))
            : KdfBenchmark.Argon2(Kind == LuksPbkdf.Argon2id, IterTimeMs, MemoryKiB);
        return new LuksKdf(Kind, null, Iterations ?? passes, memory, lanes, salt);
    }
}

/// <summary>Makes key material and digests.</summary>
internal static class LuksSlotMaker
{
    /// <summary>The material of a slot: the volume key, split, encrypted with what the passphrase gives.</summary>
    public static byte[] MakeMaterial(LuksKeySlot slot, ReadOnlySpan<byte> volumeKey, Secret passphrase)
    {
        byte[] material = GC.AllocateArray<byte>(slot.MaterialSize, pinned: true);
        Span<byte> areaKey = stackalloc byte[slot.AreaKeySize];
        try
        {
            LuksUnlock.Derive(slot.Kdf, passphrase.Span, areaKey, null);
            int size = slot.KeySize * slot.Stripes;
            AntiForensic.Split(volumeKey, slot.Stripes, Hash.Get(slot.SplitHash), material.AsSpan(0, size));
            RandomNumberGenerator.Fill(material.AsSpan(size));
            using ISectorCipher cipher = slot.AreaCipher.Create(areaKey);
            cipher.Encrypt(0, material);
            return material;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(areaKey);
        }
    }

    /// <summary>The digest of a volume key.</summary>
    public static LuksDigest MakeDigest(
        ReadOnlySpan<byte> volumeKey, Hash hash, int iterations, int size, IReadOnlyList<int> slots)
    {
        byte[] salt = RandomNumberGenerator.GetBytes(LuksLayout.SaltSize);
        var value = new byte[size];
        hash.Pbkdf2(volumeKey, salt, iterations, value);
        return new LuksDigest(hash.Name, iterations, salt, value, slots);
    }
}
