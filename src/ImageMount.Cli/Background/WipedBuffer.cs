using System.Buffers;
using System.Security.Cryptography;

namespace ImageMount.Cli.Background;

/// <summary>
/// A growing buffer for what may hold secrets: it does not move in memory, and what it outgrows is overwritten.
/// </summary>
internal sealed class WipedBuffer : IBufferWriter<byte>, IDisposable
{
    private byte[] _bytes = GC.AllocateUninitializedArray<byte>(4096, pinned: true);
    private int _count;

    /// <summary>What was written.</summary>
    public ReadOnlyMemory<byte> Written => _bytes.AsMemory(0, _count);

    /// <summary>Reads a stream to its end.</summary>
    public void ReadAll(Stream stream, int limit)
    {
        while (true)
        {
            int read = stream.Read(GetSpan(4096));
            if (read == 0)
            {
                return;
            }

            Advance(read);
            if (_count > limit)
            {
                throw new InvalidDataException("more was sent than is accepted");
            }
        }
    }

    /// <inheritdoc/>
    public void Advance(int count) => _count += count;

    /// <inheritdoc/>
    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        int needed = checked(_count + Math.Max(sizeHint, 1));
        if (needed > _bytes.Length)
        {
            byte[] larger = GC.AllocateUninitializedArray<byte>(Math.Max(needed, _bytes.Length * 2), pinned: true);
            _bytes.AsSpan(0, _count).CopyTo(larger);
            CryptographicOperations.ZeroMemory(_bytes);
            _bytes = larger;
        }

        return _bytes.AsMemory(_count);
    }

    /// <inheritdoc/>
    public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    /// <inheritdoc/>
    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_bytes);
        _count = 0;
    }
}
