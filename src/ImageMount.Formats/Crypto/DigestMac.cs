using System.Security.Cryptography;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Utilities;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// HMAC (RFC 2104) over a digest of BouncyCastle. Its own HMAC keeps the padded key and cannot be wiped; here the states
/// behind both pads are kept, and everything goes when disposed.
/// </summary>
internal sealed class DigestMac : IDisposable
{
    private readonly IDigest _digest;
    private readonly IDigest _inner;
    private readonly IDigest _outer;

    public DigestMac(Func<IDigest> make, ReadOnlySpan<byte> key)
    {
        _digest = make();
        int block = _digest.GetByteLength();
        byte[] copy = GC.AllocateUninitializedArray<byte>(key.Length, pinned: true);
        byte[] pad = GC.AllocateArray<byte>(Math.Max(block, _digest.GetDigestSize()), pinned: true);
        key.CopyTo(copy);
        if (key.Length > block)
        {
            _digest.BlockUpdate(copy, 0, copy.Length);
            _digest.DoFinal(pad, 0);
        }
        else
        {
            copy.CopyTo(pad, 0);
        }

        _inner = Absorb(make(), pad, block, 0x36);
        _outer = Absorb(make(), pad, block, 0x36 ^ 0x5c);
        CryptographicOperations.ZeroMemory(copy);
        CryptographicOperations.ZeroMemory(pad);
    }

    /// <summary>The code of some data; <paramref name="result"/> may be the same array, and has the digest's size.</summary>
    public void Compute(byte[] data, byte[] result)
    {
        Restore(_inner);
        _digest.BlockUpdate(data, 0, data.Length);
        _digest.DoFinal(result, 0);
        Restore(_outer);
        _digest.BlockUpdate(result, 0, _digest.GetDigestSize());
        _digest.DoFinal(result, 0);
    }

    /// <summary>Overwrites all that comes of the key: a digest that is reset clears its state and its message words.</summary>
    public void Dispose()
    {
        _digest.Reset();
        _inner.Reset();
        _outer.Reset();
    }

    private static IDigest Absorb(IDigest digest, byte[] pad, int block, byte change)
    {
        for (int i = 0; i < block; i++)
        {
            pad[i] ^= change;
        }

        digest.BlockUpdate(pad, 0, block);
        return digest;
    }

    private void Restore(IDigest state) => ((IMemoable)_digest).Reset((IMemoable)state);
}
