using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using Org.BouncyCastle.Crypto.Digests;

namespace ImageMount.Formats.Crypto;

/// <summary>
/// Argon2i and Argon2id, version 1.3 (RFC 9106): a key from a passphrase, at the price of memory. Lanes are filled by
/// as many threads; the memory lies outside the GC heap and is overwritten afterwards. (The packages at hand either
/// lack Argon2 or are for one thread, and this is what one waits for when a disk is unlocked.)
/// </summary>
internal sealed class Argon2
{
    private const int BlockBytes = 1024;
    private const int BlockWords = BlockBytes / 8;
    private const int ChunkShift = 14; // 16 MiB
    private const int Slices = 4;
    private const int Version = 0x13;
    private const int HashSize = 64;

    private readonly int _passes;
    private readonly int _lanes;
    private readonly bool _isHybrid;
    private readonly uint _blocks;
    private readonly uint _laneLength;
    private readonly uint _segmentLength;
    private readonly NativeBuffer[] _memory;

    private Argon2(bool isHybrid, int passes, int memoryKiB, int lanes)
    {
        _isHybrid = isHybrid;
        _passes = passes;
        _lanes = lanes;
        _segmentLength = (uint)(memoryKiB / (Slices * lanes));
        _laneLength = _segmentLength * Slices;
        _blocks = _laneLength * (uint)lanes;
        _memory = new NativeBuffer[(_blocks >> ChunkShift) + 1];
    }

    /// <summary>Derives a key.</summary>
    /// <param name="isHybrid">Argon2id; else Argon2i.</param>
    /// <param name="passphrase">Passphrase.</param>
    /// <param name="salt">Salt.</param>
    /// <param name="passes">Passes over the memory, 1 or more.</param>
    /// <param name="memoryKiB">Memory in KiB, at least 8 for each lane.</param>
    /// <param name="lanes">Lanes, which change the result; 1 or more.</param>
    /// <param name="key">Takes the key, 4 bytes or more.</param>
    /// <exception cref="BlockException">LimitExceeded: there is not so much memory.</exception>
    public static void Derive(
        bool isHybrid, ReadOnlySpan<byte> passphrase, ReadOnlySpan<byte> salt, int passes, int memoryKiB, int lanes,
        Span<byte> key)
    {
        var argon = new Argon2(isHybrid, passes, memoryKiB, lanes);
        Span<byte> seed = stackalloc byte[HashSize + 8];
        argon.Seed(passphrase, salt, memoryKiB, key.Length, seed);
        try
        {
            argon.Allocate();
            argon.FillFirst(seed);
            argon.FillAll();
            argon.Finish(key);
        }
        finally
        {
            seed.Clear();
            argon.Free();
        }
    }

    private void Seed(ReadOnlySpan<byte> passphrase, ReadOnlySpan<byte> salt, int memoryKiB, int keyLength, Span<byte> seed)
    {
        var digest = new Blake2bDigest(HashSize * 8);
        foreach (int number in (int[])[_lanes, keyLength, memoryKiB, _passes, Version, _isHybrid ? 2 : 1])
        {
            Add(digest, number);
        }

        Add(digest, passphrase.Length);
        Add(digest, passphrase);
        Add(digest, salt.Length);
        Add(digest, salt);
        Add(digest, 0); // No further secret,
        Add(digest, 0); // no associated data.
        var hash = new byte[HashSize];
        digest.DoFinal(hash, 0);
        hash.CopyTo(seed);
        CryptographicOperations.ZeroMemory(hash);
    }

    private void Allocate()
    {
        try
        {
            for (int i = 0; i < _memory.Length; i++)
            {
                long left = (_blocks - ((long)i << ChunkShift)) * BlockBytes;
                _memory[i] = new NativeBuffer((int)Math.Clamp(left, 1, BlockBytes << ChunkShift));
            }
        }
        catch (OutOfMemoryException e)
        {
            throw new BlockException(
                BlockErrorKind.LimitExceeded, "there is not enough memory to derive the key", e)
            {
                Expected = $"{_blocks} KiB",
            };
        }
    }

    private void Free()
    {
        foreach (NativeBuffer? chunk in _memory)
        {
            if (chunk is not null)
            {
                CryptographicOperations.ZeroMemory(chunk.GetSpan());
                ((IDisposable)chunk).Dispose();
            }
        }
    }

    private void FillFirst(Span<byte> seed)
    {
        for (int lane = 0; lane < _lanes; lane++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(seed[(HashSize + 4)..], lane);
            for (int i = 0; i < 2; i++)
            {
                BinaryPrimitives.WriteInt32LittleEndian(seed[HashSize..], i);
                LongHash(seed, MemoryMarshal.AsBytes(Block((uint)lane * _laneLength + (uint)i)));
            }
        }
    }

    private void FillAll()
    {
        for (int pass = 0; pass < _passes; pass++)
        {
            for (int slice = 0; slice < Slices; slice++)
            {
                if (_lanes == 1)
                {
                    FillSegment(pass, 0, slice);
                    continue;
                }

                (int Pass, int Slice) now = (pass, slice);
                Parallel.For(0, _lanes, lane => FillSegment(now.Pass, (uint)lane, now.Slice));
            }
        }
    }

    private void Finish(Span<byte> key)
    {
        Span<ulong> sum = stackalloc ulong[BlockWords];
        sum.Clear();
        for (uint lane = 0; lane < _lanes; lane++)
        {
            Span<ulong> last = Block(((lane + 1) * _laneLength) - 1);
            for (int i = 0; i < BlockWords; i++)
            {
                sum[i] ^= last[i];
            }
        }

        LongHash(MemoryMarshal.AsBytes(sum), key);
        sum.Clear();
    }

    private void FillSegment(int pass, uint lane, int slice)
    {
        bool fromCounter = !_isHybrid || (pass == 0 && slice < Slices / 2);
        Span<ulong> zero = stackalloc ulong[BlockWords];
        Span<ulong> input = stackalloc ulong[BlockWords];
        Span<ulong> addresses = stackalloc ulong[BlockWords];
        zero.Clear();
        input.Clear();
        if (fromCounter)
        {
            input[0] = (ulong)pass;
            input[1] = lane;
            input[2] = (ulong)slice;
            input[3] = _blocks;
            input[4] = (ulong)_passes;
            input[5] = _isHybrid ? 2u : 1u;
        }

        uint laneStart = lane * _laneLength;
        uint first = pass == 0 && slice == 0 ? 2u : 0;
        if (fromCounter && first != 0)
        {
            NextAddresses(zero, input, addresses);
        }

        for (uint index = first; index < _segmentLength; index++)
        {
            uint current = (uint)slice * _segmentLength + index;
            uint previous = current == 0 ? _laneLength - 1 : current - 1;
            Span<ulong> before = Block(laneStart + previous);
            if (fromCounter && index % BlockWords == 0)
            {
                NextAddresses(zero, input, addresses);
            }

            ulong random = fromCounter ? addresses[(int)(index % BlockWords)] : before[0];
            Span<ulong> reference = Block(Reference(pass, lane, slice, index, random));
            Argon2Block.Compress(before, reference, Block(laneStart + current), add: pass > 0);
        }
    }

    private static void NextAddresses(Span<ulong> zero, Span<ulong> input, Span<ulong> addresses)
    {
        input[6]++;
        Argon2Block.Compress(zero, input, addresses, add: false);
        Argon2Block.Compress(zero, addresses, addresses, add: false);
    }

    /// <summary>Which earlier block is mixed in (RFC 9106, 3.4.1.1 to 3.4.2).</summary>
    private uint Reference(int pass, uint lane, int slice, uint index, ulong random)
    {
        uint from = pass == 0 && slice == 0 ? lane : (uint)((random >> 32) % (uint)_lanes);
        bool isOwn = from == lane;
        uint finished = pass == 0 ? (uint)slice * _segmentLength : _laneLength - _segmentLength;
        uint area = isOwn ? finished + index - 1 : finished - (index == 0 ? 1u : 0);
        ulong x = (random & uint.MaxValue) * (random & uint.MaxValue) >> 32;
        uint back = (uint)(area * x >> 32);
        uint start = pass == 0 ? 0 : (uint)((slice + 1) % Slices) * _segmentLength;
        return from * _laneLength + (start + area - 1 - back) % _laneLength;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Span<ulong> Block(uint index) => MemoryMarshal.Cast<byte, ulong>(
        _memory[index >> ChunkShift].GetSpan().Slice(
            (int)(index & (1 << ChunkShift) - 1) * BlockBytes, BlockBytes));

    /// <summary>The hash H' of any length (RFC 9106, 3.3).</summary>
    private static void LongHash(ReadOnlySpan<byte> input, Span<byte> output)
    {
        int size = Math.Min(output.Length, HashSize);
        var digest = new Blake2bDigest(size * 8);
        Add(digest, output.Length);
        Add(digest, input);
        var hash = new byte[size];
        digest.DoFinal(hash, 0);
        if (output.Length <= HashSize)
        {
            hash.CopyTo(output);
            CryptographicOperations.ZeroMemory(hash);
            return;
        }

        const int Half = HashSize / 2;
        while (true)
        {
            hash.AsSpan(0, Half).CopyTo(output);
            output = output[Half..];
            size = Math.Min(output.Length, HashSize);
            digest = new Blake2bDigest(size * 8);
            digest.BlockUpdate(hash, 0, HashSize);
            digest.DoFinal(hash, 0);
            if (output.Length <= HashSize)
            {
                hash.AsSpan(0, size).CopyTo(output);
                CryptographicOperations.ZeroMemory(hash);
                return;
            }
        }
    }

    private static void Add(Blake2bDigest digest, int number)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, number);
        digest.BlockUpdate(bytes, 0, 4);
    }

    private static void Add(Blake2bDigest digest, ReadOnlySpan<byte> data)
    {
        if (data.IsEmpty)
        {
            return;
        }

        byte[] copy = GC.AllocateUninitializedArray<byte>(data.Length, pinned: true);
        data.CopyTo(copy);
        digest.BlockUpdate(copy, 0, copy.Length);
        CryptographicOperations.ZeroMemory(copy);
    }
}
