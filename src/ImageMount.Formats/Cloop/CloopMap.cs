using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Cloop;

/// <summary>The block offsets of an image, validated: every block lies inside the file, in order.</summary>
internal sealed class CloopMap : IExtentMap
{
    private readonly BlockNode _file;
    private readonly long[] _offsets;

    private CloopMap(BlockNode file, int blockSize, long[] offsets)
    {
        _file = file;
        _offsets = offsets;
        BlockSize = blockSize;
    }

    /// <summary>Bytes of a block.</summary>
    public int BlockSize { get; }

    /// <summary>Blocks of the disk.</summary>
    public int BlockCount => _offsets.Length - 1;

    /// <summary>First byte after the last block.</summary>
    public long EndOfBlocks => _offsets[^1];

    /// <inheritdoc/>
    public long Length => (long)BlockCount * BlockSize;

    /// <inheritdoc/>
    public BlockNode? Backing => null;

    /// <summary>Reads header and offsets.</summary>
    public static async ValueTask<CloopMap> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int tableAt = CloopLayout.PreambleSize + Marshal.SizeOf<CloopHeader>();
        if (file.Length < tableAt)
        {
            throw BlockException.Invalid("the file is too short for a cloop image", null, $"{file.Length} bytes");
        }

        using BufferLease head = BufferPool.Shared.Rent(tableAt);
        await file.ReadAsync(0, head.Memory, cancellationToken).ConfigureAwait(false);
        CheckVersion(head.Span[..CloopLayout.PreambleSize]);
        CloopHeader header = MemoryMarshal.Read<CloopHeader>(head.Span[CloopLayout.PreambleSize..]);
        if (header.BlockSize == 0 || header.BlockSize % 512 != 0 || header.BlockSize > CloopLayout.MaxBlockSize)
        {
            throw BlockException.Invalid("the block size is impossible", CloopLayout.PreambleSize,
                $"{header.BlockSize}", $"a multiple of 512, at most {CloopLayout.MaxBlockSize}");
        }

        if (header.BlockCount > CloopLayout.MaxBlocks)
        {
            throw BlockException.Limit(
                "the image has too many blocks", header.BlockCount, CloopLayout.MaxBlocks,
                CloopLayout.PreambleSize + 4);
        }

        int count = (int)header.BlockCount.Value + 1;
        if (count > (file.Length - tableAt) / sizeof(long))
        {
            throw BlockException.Invalid("the file ends inside the table of blocks", tableAt,
                $"{file.Length - tableAt} bytes", $"{(long)count * sizeof(long)}");
        }

        var offsets = new long[count];
        await ReadOffsetsAsync(file, tableAt, offsets, cancellationToken).ConfigureAwait(false);
        CheckOffsets(offsets, tableAt, (int)header.BlockSize.Value, file.Length);
        return new CloopMap(file, (int)header.BlockSize.Value, offsets);
    }

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        long block = guestOffset / BlockSize;
        long start = block * BlockSize;
        int stored = (int)(_offsets[block + 1] - _offsets[block]);
        return new(MappedRun.Compressed(
            Math.Min(count, start + BlockSize - guestOffset),
            new CompressedUnit(_file, _offsets[block], stored, start, BlockSize, ZlibDecoder.Instance)));
    }

    private static void CheckVersion(ReadOnlySpan<byte> preamble)
    {
        if (!preamble.StartsWith(CloopLayout.Script))
        {
            throw BlockException.Invalid("this is not a cloop image", 0, null, "a script with '#V2.0 Format'");
        }

        ReadOnlySpan<byte> rest = preamble[CloopLayout.Script.Length..];
        if (!rest.StartsWith("2.0 "u8))
        {
            int end = rest.IndexOfAny((byte)' ', (byte)'\n');
            string version = Encoding.Latin1.GetString(rest[..Math.Clamp(end, 0, 8)]);
            throw BlockException.Unsupported(
                string.Create(CultureInfo.InvariantCulture, $"cloop version '{version}' (supported: 2.0)"));
        }
    }

    private static async ValueTask ReadOffsetsAsync(
        BlockNode file, int tableAt, long[] offsets, CancellationToken cancellationToken)
    {
        const int Step = 64 << 10;
        using BufferLease buffer = BufferPool.Shared.Rent(Step);
        for (int first = 0; first < offsets.Length; first += Step / sizeof(long))
        {
            int count = Math.Min(Step / sizeof(long), offsets.Length - first);
            Memory<byte> bytes = buffer.Memory[..(count * sizeof(long))];
            await file.ReadAsync(tableAt + ((long)first * sizeof(long)), bytes, cancellationToken)
                .ConfigureAwait(false);
            ReadOnlySpan<Be64> stored = MemoryMarshal.Cast<byte, Be64>(bytes.Span);
            for (int i = 0; i < count; i++)
            {
                offsets[first + i] = (long)stored[i].Value;
            }
        }
    }

    private static void CheckOffsets(long[] offsets, int tableAt, int blockSize, long fileLength)
    {
        // What zlib cannot compress grows by a thousandth and a few bytes.
        long most = blockSize + (blockSize / 64) + 1024;
        long before = tableAt + ((long)offsets.Length * sizeof(long));
        for (int i = 0; i < offsets.Length; i++)
        {
            long offset = offsets[i];
            if (offset < before || offset > fileLength || (i > 0 && offset - before > most))
            {
                throw BlockException.Invalid(
                    i == 0 ? "the first block lies outside the file"
                        : $"block {i - 1} is stored in an impossible place",
                    tableAt + ((long)i * sizeof(long)), $"0x{offset:x}",
                    $"0x{before:x} to 0x{Math.Min(fileLength, i == 0 ? fileLength : before + most):x}");
            }

            before = offset;
        }
    }
}
