using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Crypto;

namespace ImageMount.Formats.Luks;

/// <summary>Gets volume keys out of key slots.</summary>
internal static class LuksUnlock
{
    /// <summary>Finds the key of every digest that segments need.</summary>
    /// <param name="area">Header and key material.</param>
    /// <param name="header">The header.</param>
    /// <param name="passphrase">The passphrase.</param>
    /// <param name="slot">The only slot to try, or null for all.</param>
    /// <param name="cancellationToken">Stops between slots.</param>
    /// <exception cref="BlockException">PermissionDenied: the passphrase opens none of them.</exception>
    public static async ValueTask<LuksKeys> OpenAsync(
        LuksArea area, LuksHeader header, Secret passphrase, int? slot, CancellationToken cancellationToken)
    {
        var budget = new KdfBudget();
        var keys = new LuksKeys();
        try
        {
            foreach (LuksDigest digest in header.Segments.Select(segment => segment.Digest).Distinct())
            {
                (int Slot, Secret Key) found = await FindAsync(
                    area, header, digest, passphrase, slot, budget, cancellationToken).ConfigureAwait(false)
                    ?? throw WrongPassphrase(header, slot);
                keys.Add(digest, found.Slot, found.Key);
            }

            return keys;
        }
        catch
        {
            keys.Dispose();
            throw;
        }
    }

    /// <summary>The first slot of a digest that a passphrase opens, and the key in it; null: none.</summary>
    public static async ValueTask<(int Slot, Secret Key)?> FindAsync(
        LuksArea area, LuksHeader header, LuksDigest digest, Secret passphrase, int? only, KdfBudget budget,
        CancellationToken cancellationToken)
    {
        IEnumerable<LuksKeySlot> candidates = header.Slots
            .Where(slot => slot.IsActive && digest.Slots.Contains(slot.Id))
            .Where(slot => only is null ? slot.Priority > 0 : slot.Id == only)
            .OrderByDescending(slot => slot.Priority);
        foreach (LuksKeySlot slot in candidates)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (await TryOpenAsync(area, slot, digest, passphrase, budget, cancellationToken).ConfigureAwait(false)
                is { } key)
            {
                return (slot.Id, key);
            }
        }

        return null;
    }

    /// <summary>Derives the key that a slot's material is encrypted with.</summary>
    public static void Derive(LuksKdf kdf, ReadOnlySpan<byte> passphrase, Span<byte> key, KdfBudget? budget)
    {
        if (kdf.Kind == LuksPbkdf.Pbkdf2)
        {
            Hash hash = Hash.Get(kdf.Hash!);
            budget?.SpendPbkdf2(kdf.Iterations, key.Length, hash.Size);
            hash.Pbkdf2(passphrase, kdf.Salt, kdf.Iterations, key);
            return;
        }

        budget?.SpendArgon2(kdf.MemoryKiB, kdf.Iterations);
        Argon2.Derive(
            kdf.Kind == LuksPbkdf.Argon2id, passphrase, kdf.Salt, kdf.Iterations, kdf.MemoryKiB, kdf.Lanes, key);
    }

    private static async ValueTask<Secret?> TryOpenAsync(
        LuksArea area, LuksKeySlot slot, LuksDigest digest, Secret passphrase, KdfBudget budget,
        CancellationToken cancellationToken)
    {
        using BufferLease material = BufferPool.Shared.Rent(slot.MaterialSize);
        try
        {
            await area.ReadAsync(
                slot.AreaOffset, material.Memory, $"the key material of slot {slot.Id}", cancellationToken)
                .ConfigureAwait(false);
            return Open(slot, digest, passphrase.Span, material.Span, budget);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(material.Span);
        }
    }

    private static Secret? Open(
        LuksKeySlot slot, LuksDigest digest, ReadOnlySpan<byte> passphrase, Span<byte> material, KdfBudget budget)
    {
        Span<byte> areaKey = stackalloc byte[LuksLayout.MaxKeySize];
        areaKey = areaKey[..slot.AreaKeySize];
        Span<byte> key = stackalloc byte[LuksLayout.MaxKeySize];
        key = key[..slot.KeySize];
        try
        {
            Derive(slot.Kdf, passphrase, areaKey, budget);
            using (ISectorCipher cipher = slot.AreaCipher.Create(areaKey))
            {
                cipher.Decrypt(0, material);
            }

            AntiForensic.Merge(material[..(slot.KeySize * slot.Stripes)], slot.Stripes, Hash.Get(slot.SplitHash), key);
            return Verify(digest, key, budget) ? new Secret(key) : null;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(areaKey);
            CryptographicOperations.ZeroMemory(key);
        }
    }

    private static bool Verify(LuksDigest digest, ReadOnlySpan<byte> key, KdfBudget budget)
    {
        Span<byte> value = stackalloc byte[digest.Value.Length];
        Hash hash = Hash.Get(digest.Hash);
        budget.SpendPbkdf2(digest.Iterations, value.Length, hash.Size);
        hash.Pbkdf2(key, digest.Salt, digest.Iterations, value);
        return CryptographicOperations.FixedTimeEquals(value, digest.Value);
    }

    private static BlockException WrongPassphrase(LuksHeader header, int? slot)
    {
        if (!header.Slots.Any(candidate => candidate.IsActive))
        {
            return new(BlockErrorKind.PermissionDenied, "no key slot is in use: nothing can unlock the image");
        }

        return slot is null
            ? new(BlockErrorKind.PermissionDenied, "the passphrase opens none of the key slots")
            : new(BlockErrorKind.PermissionDenied, $"the passphrase does not open key slot {slot}");
    }
}

/// <summary>The keys of an open image; overwritten when disposed.</summary>
internal sealed class LuksKeys : IDisposable
{
    private readonly Dictionary<LuksDigest, Secret> _keys = [];

    /// <summary>The slot that the first key came out of.</summary>
    public int Slot { get; private set; } = -1;

    /// <summary>The key of a digest.</summary>
    public Secret this[LuksDigest digest] => _keys[digest];

    /// <summary>Keeps a key.</summary>
    public void Add(LuksDigest digest, int slot, Secret key)
    {
        Slot = Slot < 0 ? slot : Slot;
        _keys.Add(digest, key);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Secret key in _keys.Values)
        {
            key.Dispose();
        }
    }
}
