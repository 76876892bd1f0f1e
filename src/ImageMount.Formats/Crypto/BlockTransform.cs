namespace ImageMount.Formats.Crypto;

/// <summary>
/// A block cipher with its key, applied to many independent blocks at a time; the modes are built on it. Thread-safe.
/// </summary>
internal abstract class BlockTransform : IDisposable
{
    /// <summary>Largest <see cref="BlockSize"/>, bytes.</summary>
    public const int MaxBlockSize = 16;

    /// <summary>Bytes of a block: 8 or 16.</summary>
    public abstract int BlockSize { get; }

    /// <summary>AES, with or without the processor's instructions for it; the key is copied.</summary>
    public static BlockTransform OfAes(ReadOnlySpan<byte> key, bool accelerated) =>
        accelerated ? new AesTransform(key) : ArrayTransform.OfPlatformAes(key);

    /// <summary>Encrypts whole blocks in place.</summary>
    public abstract void Encrypt(Span<byte> blocks);

    /// <summary>Decrypts whole blocks in place.</summary>
    public abstract void Decrypt(Span<byte> blocks);

    /// <summary>Overwrites the key.</summary>
    public abstract void Dispose();
}
