using System.Numerics;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>An entry of the log (2.3.1), known by its header; whether it is sound is found out on demand.</summary>
/// <param name="Offset">Where it begins in the log, bytes.</param>
/// <param name="Length">Bytes; it may go round the end of the log.</param>
/// <param name="Tail">Where in the log the sequence begins that this entry ends.</param>
/// <param name="SequenceNumber">One more than its predecessor's.</param>
/// <param name="Descriptors">Number of descriptors.</param>
/// <param name="FlushedFileOffset">The file was at least this long when the entry was written.</param>
/// <param name="LastFileOffset">All structures fit into this much.</param>
internal sealed record VhdxLogEntry(
    long Offset, long Length, long Tail, ulong SequenceNumber, long Descriptors, long FlushedFileOffset,
    long LastFileOffset)
{
    /// <summary>Whether the entry is sound; null when nobody has looked.</summary>
    public bool? IsSound { get; set; }

    /// <summary>Sectors that hold the header and the descriptors.</summary>
    public long DescriptorSectors => DescriptorSectorsFor(Descriptors);

    /// <summary>Sectors for a header and so many descriptors.</summary>
    public static long DescriptorSectorsFor(long descriptors) =>
        (VhdxLayout.LogEntryHeaderSize + (descriptors * VhdxLayout.LogDescriptorSize) + VhdxLayout.LogSectorSize - 1)
        / VhdxLayout.LogSectorSize;

    /// <summary>Reads the header at the start of a sector; null when there is no possible one.</summary>
    public static VhdxLogEntry? TryParse(ReadOnlySpan<byte> sector, long offset, long logLength, Guid logGuid)
    {
        if (!new SpanReader(sector).TryRead(out VhdxRawLogEntry raw) || raw.Signature != VhdxLayout.LogEntrySignature
            || raw.LogGuid.Value != logGuid)
        {
            return null;
        }

        bool isPossible = raw.EntryLength % VhdxLayout.LogSectorSize == 0 && raw.EntryLength <= logLength
            && raw.Tail % VhdxLayout.LogSectorSize == 0 && raw.Tail < logLength && raw.SequenceNumber != 0
            && DescriptorSectorsFor(raw.DescriptorCount) * VhdxLayout.LogSectorSize <= raw.EntryLength
            && raw.FlushedFileOffset <= long.MaxValue && raw.LastFileOffset <= long.MaxValue;
        return new VhdxLogEntry(
            offset, raw.EntryLength, raw.Tail, raw.SequenceNumber, raw.DescriptorCount,
            (long)raw.FlushedFileOffset.Value, (long)raw.LastFileOffset.Value)
        {
            IsSound = isPossible ? null : false,
        };
    }
}

/// <summary>Reads the ring of the log, sector by sector in large steps.</summary>
/// <param name="file">The file.</param>
/// <param name="header">Where the log is.</param>
internal sealed class VhdxLogRing(BlockNode file, VhdxHeader header) : IDisposable
{
    private const int Window = 64 << 10;

    private readonly BufferLease _window = BufferPool.Shared.Rent(Window);
    private long _windowStart = -1;
    private int _windowLength;

    /// <summary>The sector at an offset in the log, which is taken around the end. Valid until the next call.</summary>
    public async ValueTask<ReadOnlyMemory<byte>> ReadSectorAsync(long offset, CancellationToken cancellationToken)
    {
        offset %= header.LogLength;
        if (_windowStart < 0 || offset < _windowStart || offset >= _windowStart + _windowLength)
        {
            _windowStart = -1;
            _windowLength = (int)Math.Min(Window, header.LogLength - offset);
            await file.ReadAsync(header.LogOffset + offset, _window.Memory[.._windowLength], cancellationToken)
                .ConfigureAwait(false);
            _windowStart = offset;
        }

        return _window.Memory.Slice((int)(offset - _windowStart), VhdxLayout.LogSectorSize);
    }

    /// <summary>
    /// True when an entry is what was once written: checksum, and sequence numbers in every descriptor and data sector.
    /// </summary>
    public async ValueTask<bool> IsSoundAsync(VhdxLogEntry entry, CancellationToken cancellationToken)
    {
        long left = entry.Descriptors;
        long dataSectors = 0;
        uint crc = uint.MaxValue;
        uint stored = 0;
        long descriptorSectors = entry.DescriptorSectors;
        for (long i = 0; i < entry.Length / VhdxLayout.LogSectorSize; i++)
        {
            ReadOnlyMemory<byte> sector = await ReadSectorAsync(
                entry.Offset + (i * VhdxLayout.LogSectorSize), cancellationToken).ConfigureAwait(false);
            crc = Continue(crc, sector.Span, i == 0, ref stored);
            if (i < descriptorSectors)
            {
                if (!AreSound(sector.Span, i == 0, entry.SequenceNumber, ref left, ref dataSectors))
                {
                    return false;
                }
            }
            else if (i < descriptorSectors + dataSectors && !IsDataSector(sector.Span, entry.SequenceNumber))
            {
                return false;
            }
        }

        return ~crc == stored && descriptorSectors + dataSectors <= entry.Length / VhdxLayout.LogSectorSize;
    }

    /// <inheritdoc/>
    public void Dispose() => _window.Dispose();

    /// <summary>The descriptors of one sector.</summary>
    public static ReadOnlySpan<VhdxRawDescriptor> DescriptorsOf(ReadOnlySpan<byte> sector, bool isFirst, long left)
    {
        ReadOnlySpan<VhdxRawDescriptor> all = MemoryMarshal.Cast<byte, VhdxRawDescriptor>(
            sector[(isFirst ? VhdxLayout.LogEntryHeaderSize : 0)..]);
        return all[..(int)Math.Min(left, all.Length)];
    }

    private static bool AreSound(
        ReadOnlySpan<byte> sector, bool isFirst, ulong sequenceNumber, ref long left, ref long dataSectors)
    {
        ReadOnlySpan<VhdxRawDescriptor> descriptors = DescriptorsOf(sector, isFirst, left);
        foreach (ref readonly VhdxRawDescriptor descriptor in descriptors)
        {
            bool isData = descriptor.Signature == VhdxLayout.DataDescriptorSignature;
            if ((!isData && descriptor.Signature != VhdxLayout.ZeroDescriptorSignature)
                || descriptor.SequenceNumber != sequenceNumber)
            {
                return false;
            }

            dataSectors += isData ? 1 : 0;
        }

        left -= descriptors.Length;
        return true;
    }

    private static bool IsDataSector(ReadOnlySpan<byte> sector, ulong sequenceNumber) =>
        MemoryMarshal.Read<Le32>(sector) == VhdxLayout.DataSectorSignature
        && MemoryMarshal.Read<Le32>(sector[4..]) == (uint)(sequenceNumber >> 32)
        && MemoryMarshal.Read<Le32>(sector[^4..]) == (uint)sequenceNumber;

    private static uint Continue(uint crc, ReadOnlySpan<byte> sector, bool isFirst, ref uint stored)
    {
        if (isFirst)
        {
            stored = MemoryMarshal.Read<Le32>(sector[VhdxLayout.ChecksumOffset..]);
        }

        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(sector);
        for (int i = 0; i < words.Length; i++)
        {
            ulong word = BitConverter.IsLittleEndian
                ? words[i] : System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(words[i]);
            crc = BitOperations.Crc32C(crc, isFirst && i == 0 ? word & uint.MaxValue : word);
        }

        return crc;
    }
}
