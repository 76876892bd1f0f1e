using System.Security.Cryptography;
using Org.BouncyCastle.Crypto;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// A block cipher whose implementation works on arrays and is for one thread at a time: the platform's AES where the
/// processor's instructions are not at hand, and BouncyCastle's ciphers. Idle workers are kept, so that a warm call
/// allocates nothing.
/// </summary>
internal sealed class ArrayTransform : BlockTransform
{
    private const int ScratchSize = 4096;

    private readonly IWorkers _workers;
    private readonly Worker?[] _encrypt = new Worker?[16];
    private readonly Worker?[] _decrypt = new Worker?[16];

    private ArrayTransform(int blockSize, IWorkers workers)
    {
        BlockSize = blockSize;
        _workers = workers;
    }

    /// <summary>The key, and how workers with it are made.</summary>
    private interface IWorkers : IDisposable
    {
        Worker Make(bool encrypt);
    }

    /// <inheritdoc/>
    public override int BlockSize { get; }

    /// <summary>AES by the platform's library.</summary>
    public static ArrayTransform OfPlatformAes(ReadOnlySpan<byte> key) => new(16, new PlatformWorkers(key));

    /// <summary>A cipher of BouncyCastle.</summary>
    public static ArrayTransform OfEngine(ReadOnlySpan<byte> key, int blockSize, Func<IBlockCipher> make) =>
        new(blockSize, new EngineWorkers(key, make));

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

        _workers.Dispose();
    }

    private void Run(Worker?[] pool, Span<byte> blocks, bool encrypt)
    {
        Worker worker = Rent(pool) ?? _workers.Make(encrypt);
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

    private sealed class PlatformWorkers : IWorkers
    {
        private readonly byte[] _key;

        public PlatformWorkers(ReadOnlySpan<byte> key)
        {
            _key = GC.AllocateUninitializedArray<byte>(key.Length, pinned: true);
            key.CopyTo(_key);
        }

        public Worker Make(bool encrypt) => new PlatformWorker(_key, encrypt);

        public void Dispose() => CryptographicOperations.ZeroMemory(_key);
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

    private sealed class EngineWorkers(ReadOnlySpan<byte> key, Func<IBlockCipher> make) : IWorkers
    {
        private readonly KeyedEngine _encrypt = new(make(), key, encrypt: true);
        private readonly KeyedEngine _decrypt = new(make(), key, encrypt: false);

        public Worker Make(bool encrypt) => new EngineWorker((encrypt ? _encrypt : _decrypt).Share());

        public void Dispose()
        {
            _encrypt.Dispose();
            _decrypt.Dispose();
        }
    }

    private sealed class EngineWorker(IBlockCipher engine) : Worker
    {
        private readonly int _blockSize = engine.GetBlockSize();

        public override void Run(int count)
        {
            for (int at = 0; at < count; at += _blockSize)
            {
                engine.ProcessBlock(Scratch, at, Scratch, at);
            }
        }

        public override void Dispose()
        {
            KeyedEngine.WipeRegisters(engine);
            base.Dispose();
        }
    }
}
