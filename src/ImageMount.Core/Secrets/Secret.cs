using System.Security.Cryptography;

namespace ImageMount.Core.Secrets;

/// <summary>
/// Bytes that must not be shown or left behind: a passphrase, a key. Kept in memory that the garbage collector does not
/// move or copy, and overwritten when disposed. <see cref="ToString"/> says nothing.
/// </summary>
public sealed class Secret : IDisposable
{
    /// <summary>Longest secret, bytes.</summary>
    public const int MaxLength = 8 << 20;

    private readonly byte[] _bytes;
    private bool _isDisposed;

    /// <summary>Copies the bytes; wiping the original is the caller's business.</summary>
    public Secret(ReadOnlySpan<byte> bytes)
    {
        _bytes = GC.AllocateUninitializedArray<byte>(bytes.Length, pinned: true);
        bytes.CopyTo(_bytes);
    }

    /// <summary>Bytes.</summary>
    public int Length => _bytes.Length;

    /// <summary>The secret itself; valid until disposed.</summary>
    public ReadOnlySpan<byte> Span
    {
        get
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            return _bytes;
        }
    }

    /// <summary>Another copy, with a life of its own.</summary>
    public Secret Copy() => new(Span);

    /// <inheritdoc/>
    public override string ToString() => "(secret)";

    /// <inheritdoc/>
    public void Dispose()
    {
        _isDisposed = true;
        CryptographicOperations.ZeroMemory(_bytes);
    }
}
