using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Core.Secrets;

namespace ImageMount.Formats.EncrCdsa;

/// <summary>
/// Opens the key blob: PBKDF2 with SHA-1 makes a triple-DES key of the passphrase, and that unwraps the keys.
/// </summary>
internal static class EncrCdsaKeys
{
    private const int BlobOffset = 104;
    private const int SaltOffset = 16;
    private const int IvOffset = 52;
    private const int MaxSalt = 32;
    private const int UnwrapKeySize = 24;
    private const int BlockSize = 8;

    /// <summary>The AES key and after it the HMAC key.</summary>
    /// <exception cref="BlockException">PermissionDenied when the passphrase is wrong.</exception>
    public static async ValueTask<Secret> UnlockAsync(
        BlockNode file, EncrCdsaHeader header, Secret passphrase, CancellationToken cancellationToken)
    {
        foreach (EncrCdsaKeyPlace place in header.Keys)
        {
            using BufferLease bytes = BufferPool.Shared.Rent(place.Length);
            await file.ReadAsync(place.Offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
            try
            {
                if (TryUnlock(bytes.Span, header.KeySize, passphrase.Span) is { } keys)
                {
                    return keys;
                }
            }
            catch (BlockException e)
            {
                e.Offset = place.Offset + (e.Offset ?? 0);
                throw;
            }
        }

        throw new BlockException(BlockErrorKind.PermissionDenied, "the passphrase does not open the image");
    }

    private static Secret? TryUnlock(ReadOnlySpan<byte> entry, int keySize, ReadOnlySpan<byte> passphrase)
    {
        if (!MemoryMarshal.TryRead(entry, out EncrCdsaPassphraseKey stored)
            || stored.BlobSize > entry.Length - BlobOffset)
        {
            throw BlockException.Invalid("a key entry is cut off", null, $"{entry.Length} bytes");
        }

        if (stored.KdfAlgorithm != EncrCdsaLayout.AlgorithmPbkdf2
            || stored.Algorithm != EncrCdsaLayout.AlgorithmTripleDes
            || stored.KeyBits != 8 * UnwrapKeySize)
        {
            throw BlockException.Unsupported(
                $"keys wrapped by algorithm {stored.Algorithm} with {stored.KeyBits} bits from {stored.KdfAlgorithm} "
                + "(supported: triple DES, 192 bits, PBKDF2)");
        }

        if (stored.Iterations == 0 || stored.Iterations > EncrCdsaLayout.MaxIterations)
        {
            throw BlockException.Limit("the key derivation takes too many rounds",
                stored.Iterations, EncrCdsaLayout.MaxIterations, 8);
        }

        if (stored.SaltSize > MaxSalt || stored.IvSize < BlockSize || stored.IvSize > MaxSalt
            || stored.BlobSize == 0 || stored.BlobSize % BlockSize != 0)
        {
            throw BlockException.Invalid("a key entry is impossible", 12,
                $"salt of {stored.SaltSize}, vector of {stored.IvSize}, blob of {stored.BlobSize} bytes");
        }

        ReadOnlySpan<byte> blob = entry.Slice(BlobOffset, (int)stored.BlobSize.Value);
        Span<byte> unwrapKey = stackalloc byte[UnwrapKeySize];
        Span<byte> opened = GC.AllocateUninitializedArray<byte>(blob.Length, pinned: true);
        try
        {
            Rfc2898DeriveBytes.Pbkdf2(
                passphrase, entry.Slice(SaltOffset, (int)stored.SaltSize.Value), unwrapKey,
                (int)stored.Iterations.Value, HashAlgorithmName.SHA1);
            return TryDecrypt(unwrapKey, blob, entry.Slice(IvOffset, BlockSize), opened)
                && IsKeyBlob(opened, keySize) ? new Secret(opened[..(keySize + EncrCdsaLayout.HmacKeySize)]) : null;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(unwrapKey);
            CryptographicOperations.ZeroMemory(opened);
        }
    }

    private static bool TryDecrypt(
        ReadOnlySpan<byte> key, ReadOnlySpan<byte> blob, ReadOnlySpan<byte> iv, Span<byte> opened)
    {
        using var cipher = TripleDES.Create();
        try
        {
            cipher.SetKey(key);
            return cipher.DecryptCbc(blob, iv, opened, PaddingMode.None) == opened.Length;
        }
        catch (CryptographicException)
        {
            return false; // A weak key: no image was made with it.
        }
    }

    /// <summary>Padding as in PKCS #7, and what follows the keys, are right: the passphrase was.</summary>
    private static bool IsKeyBlob(ReadOnlySpan<byte> opened, int keySize)
    {
        int padding = opened[^1];
        int content = keySize + EncrCdsaLayout.HmacKeySize;
        return padding is > 0 and <= BlockSize
            && !opened[^padding..].ContainsAnyExcept((byte)padding)
            && opened.Length - padding >= content + EncrCdsaLayout.BlobMagic.Length
            && opened[content..].StartsWith(EncrCdsaLayout.BlobMagic);
    }
}
