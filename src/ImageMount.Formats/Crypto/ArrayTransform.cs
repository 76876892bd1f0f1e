using System.Security.Cryptography;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Parameters;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// A block cipher whose implementation works on arrays and is for one thread at a time: the platform's AES where the
/// processor's instructions are not at hand, and BouncyCastle's ciphers. Idle workers are kept, so that a warm call
/// allocates nothing.
/// </summary>
internal sealed class ArrayTransform : BlockTransform
{
    private const int ScratchSize = 4096;

    private readonly byte[] _key;
    private readonly Func<byte[], bool, Worker> _make;
    private readonly Worker?[] _encrypt = new Worker?[16];
    private readonly Worker?[] _decrypt = new Worker?[16];

    private ArrayTransform(ReadOnlySpan<byte> key, int blockSize, Func<byte[], bool, Worker> make)
    {
        _key = GC.AllocateUninitializedArray<byte>(key.Length, pinned: true);
        key.CopyTo(_key);
        BlockSize = blockSize;
        _make = make;
    }

    /// <inheritdoc/>
    public override int BlockSize { get; }

    /// <summary>AES by the platform's library.</summary>
    public static ArrayTransform OfPlatformAes(ReadOnlySpan<byte> key) =>
        new(key, 16, static (k, encrypt) => new PlatformWorker(k, encrypt));

    /// <summary>A cipher of BouncyCastle.</summary>
    public static ArrayTransform OfEngine(ReadOnlySpan<byte> key, int blockSize, Func<IBlockCipher> make) =>
        new(key, blockSize, (k, encrypt) => new EngineWorker(make(), k, encrypt));

    /// <inheritdoc/>
    public override void Encrypt(Span<byte> blocks) => Run(_encrypt, blocks, encrypt: true);

    /// <inheritdoc/>
    public override void Decrypt(Span<byte> blocks) => Run(_decrypt, blocks, encrypt: false);

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (Worker?[] pool in (Worker?[][])[_encrypt, _decrypt])
        {
            for (int i = 0; i < pool.Length; i++)
            {
                Interlocked.Exchange(ref pool[i], null)?.Dispose();
            }
        }

        CryptographicOperations.ZeroMemory(_key);
    }

    private void Run(Worker?[] pool, Span<byte> blocks, bool encrypt)
    {
        Worker worker = Rent(pool) ?? _make(_key, encrypt);
        while (!blocks.IsEmpty)
        {
            int count = Math.Min(blocks.Length, ScratchSize);
            blocks[..count].CopyTo(worker.Scratch);
            worker.Run(count);
            worker.Scratch.AsSpan(0, count).CopyTo(blocks);
            blocks = blocks[count..];
        }

        Return(pool, worker);
    }

    private static Worker? Rent(Worker?[] pool)
    {
        for (int i = 0; i < pool.Length; i++)
        {
            if (Volatile.Read(ref pool[i]) is not null && Interlocked.Exchange(ref pool[i], null) is { } worker)
            {
                return worker;
            }
        }

        return null;
    }

    private static void Return(Worker?[] pool, Worker worker)
    {
        for (int i = 0; i < pool.Length; i++)
        {
            if (Interlocked.CompareExchange(ref pool[i], worker, null) is null)
            {
                return;
            }
        }

        worker.Dispose();
    }

    private abstract class Worker : IDisposable
    {
        public byte[] Scratch { get; } = GC.AllocateUninitializedArray<byte>(ScratchSize, pinned: true);

        public abstract void Run(int count);

        public virtual void Dispose() => CryptographicOperations.ZeroMemory(Scratch);
    }

    private sealed class PlatformWorker : Worker
    {
        private readonly Aes _aes = Aes.Create();
        private readonly ICryptoTransform _transform;

        public PlatformWorker(byte[] key, bool encrypt)
        {
            // Blocks on their own, because the modes here are not among the library's; not for whole data.
            _aes.Mode = System.Security.Cryptography.CipherMode.ECB;
            _aes.Padding = PaddingMode.None;
            _transform = encrypt ? _aes.CreateEncryptor(key, null) : _aes.CreateDecryptor(key, null);
        }

        public override void Run(int count) => _transform.TransformBlock(Scratch, 0, count, Scratch, 0);

        public override void Dispose()
        {
            _transform.Dispose();
            _aes.Dispose();
            base.Dispose();
        }
    }

    private sealed class EngineWorker : Worker
    {
        private readonly IBlockCipher _engine;
        private readonly int _blockSize;

        public EngineWorker(IBlockCipher engine, byte[] key, bool encrypt)
        {
            _engine = engine;
            _blockSize = engine.GetBlockSize();
            engine.Init(encrypt, new KeyParameter(key));
        }

        public override void Run(int count)
        {
            for (int at = 0; at < count; at += _blockSize)
            {
                _engine.ProcessBlock(Scratch, at, Scratch, at);
            }
        }
    }
}
