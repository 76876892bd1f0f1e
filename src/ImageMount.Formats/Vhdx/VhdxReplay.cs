using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Finds what a log holds that has to be done before anything else is believed (2.3.3), and does it: in the file for
/// a disk that may be written, in memory for one that is only read.
/// </summary>
internal sealed class VhdxReplay
{
    /// <summary>Looking at entries again and again is limited to so many times the log.</summary>
    private const int MaxRounds = 8;

    private readonly BlockNode _file;
    private readonly VhdxHeader _header;
    private readonly List<VhdxLogEntry> _sequence;

    private VhdxReplay(BlockNode file, VhdxHeader header, List<VhdxLogEntry> sequence)
    {
        _file = file;
        _header = header;
        _sequence = sequence;
    }

    /// <summary>
    /// Finds the active sequence: the newest whole one. Null when the log was announced but nothing was written to it.
    /// </summary>
    /// <exception cref="BlockException">The log is damaged, or the file is shorter than the log knows it.</exception>
    public static async ValueTask<VhdxReplay?> FindAsync(
        BlockNode file, VhdxHeader header, CancellationToken cancellationToken)
    {
        using var ring = new VhdxLogRing(file, header);
        var entries = new Dictionary<long, VhdxLogEntry>();
        for (long at = 0; at < header.LogLength; at += VhdxLayout.LogSectorSize)
        {
            ReadOnlyMemory<byte> sector = await ring.ReadSectorAsync(at, cancellationToken).ConfigureAwait(false);
            if (VhdxLogEntry.TryParse(sector.Span, at, header.LogLength, header.LogGuid) is { } entry)
            {
                entries.Add(at, entry);
            }
        }

        if (entries.Count == 0)
        {
            return null;
        }

        List<VhdxLogEntry>? sequence = await FindSequenceAsync(ring, header, entries, cancellationToken)
            .ConfigureAwait(false);
        if (sequence is null)
        {
            throw new BlockException(
                BlockErrorKind.InvalidData, "the log has to be replayed, but no entry of it is whole")
            {
                Offset = header.LogOffset,
                Hint = "The program that wrote the image may be able to repair it: qemu-img check -r all.",
            };
        }

        VhdxLogEntry head = sequence[^1];
        if (file.Length < head.FlushedFileOffset)
        {
            throw BlockException.Invalid(
                "the file was cut off: its log knows it longer", file.Length, $"0x{file.Length:x}",
                $"at least 0x{head.FlushedFileOffset:x}");
        }

        return sequence.Max(entry => entry.LastFileOffset) is var last and > VhdxLayout.MaxWrittenFile
            ? throw BlockException.Limit("the log makes the file too large", last, VhdxLayout.MaxWrittenFile)
            : new VhdxReplay(file, header, sequence);
    }

    /// <summary>Does all that the log says to a node, which shows the file. Not durable before a flush.</summary>
    public async ValueTask RunAsync(BlockNode target, CancellationToken cancellationToken)
    {
        using var ring = new VhdxLogRing(_file, _header);
        using var descriptorRing = new VhdxLogRing(_file, _header);
        await GrowAsync(target, cancellationToken).ConfigureAwait(false);
        foreach (VhdxLogEntry entry in _sequence)
        {
            long dataAt = entry.Offset + (entry.DescriptorSectors * VhdxLayout.LogSectorSize);
            long left = entry.Descriptors;
            for (long i = 0; i < entry.DescriptorSectors; i++)
            {
                ReadOnlyMemory<byte> sector = await descriptorRing.ReadSectorAsync(
                    entry.Offset + (i * VhdxLayout.LogSectorSize), cancellationToken).ConfigureAwait(false);
                VhdxRawDescriptor[] descriptors = VhdxLogRing.DescriptorsOf(sector.Span, i == 0, left).ToArray();
                left -= descriptors.Length;
                foreach (VhdxRawDescriptor descriptor in descriptors)
                {
                    bool isData = descriptor.Signature == VhdxLayout.DataDescriptorSignature;
                    await ApplyAsync(
                        target, descriptor, isData ? await ring.ReadSectorAsync(dataAt, cancellationToken)
                            .ConfigureAwait(false) : default, cancellationToken).ConfigureAwait(false);
                    dataAt += isData ? VhdxLayout.LogSectorSize : 0;
                }
            }
        }
    }

    private static async ValueTask<List<VhdxLogEntry>?> FindSequenceAsync(
        VhdxLogRing ring, VhdxHeader header, Dictionary<long, VhdxLogEntry> entries,
        CancellationToken cancellationToken)
    {
        long budget = (MaxRounds * header.LogLength) + (64L << 20);
        foreach (VhdxLogEntry head in entries.Values.OrderByDescending(entry => entry.SequenceNumber))
        {
            var sequence = new List<VhdxLogEntry>();
            long covered = 0;
            long at = head.Tail;
            while (entries.TryGetValue(at, out VhdxLogEntry? entry)
                && (sequence.Count == 0 || entry.SequenceNumber == sequence[^1].SequenceNumber + 1)
                && entry.SequenceNumber <= head.SequenceNumber)
            {
                budget -= entry.IsSound is null ? entry.Length : VhdxLayout.LogEntryHeaderSize;
                if (budget < 0)
                {
                    throw BlockException.Limit(
                        "the log holds too many damaged entries", MaxRounds, MaxRounds, header.LogOffset);
                }

                entry.IsSound ??= await ring.IsSoundAsync(entry, cancellationToken).ConfigureAwait(false);
                covered += entry.Length;
                if (entry.IsSound is false || covered > header.LogLength)
                {
                    break;
                }

                sequence.Add(entry);
                if (ReferenceEquals(entry, head))
                {
                    return sequence;
                }

                at = (at + entry.Length) % header.LogLength;
            }
        }

        return null;
    }

    private async ValueTask GrowAsync(BlockNode target, CancellationToken cancellationToken)
    {
        long last = _sequence.Max(entry => entry.LastFileOffset);
        if (target.Length < last && !await target.TryResizeAsync(last, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the log makes the file longer, and the file cannot grow")
            {
                Found = $"0x{target.Length:x}",
                Expected = $"0x{last:x}",
            };
        }
    }

    private async ValueTask ApplyAsync(
        BlockNode target, VhdxRawDescriptor descriptor, ReadOnlyMemory<byte> dataSector,
        CancellationToken cancellationToken)
    {
        bool isData = !dataSector.IsEmpty;
        ulong count = isData ? VhdxLayout.LogSectorSize : descriptor.LeadingOrLength;
        ulong offset = descriptor.FileOffset;
        ulong end = (ulong)target.Length;
        if (offset % VhdxLayout.LogSectorSize != 0 || count % VhdxLayout.LogSectorSize != 0 || offset > end
            || count > end - offset || IsForbidden((long)offset, (long)count))
        {
            throw BlockException.Invalid(
                "the log changes what it must not", _header.LogOffset, $"0x{offset:x}+0x{count:x}",
                $"4 KiB sectors below 0x{end:x}, not the headers or the log");
        }

        if (!isData)
        {
            await target.ZeroAsync((long)offset, (long)count, ZeroFlags.None, cancellationToken).ConfigureAwait(false);
            return;
        }

        using BufferLease sector = BufferPool.Shared.Rent(VhdxLayout.LogSectorSize);
        dataSector.Span.CopyTo(sector.Span);
        MemoryMarshal.Write(sector.Span, descriptor.LeadingOrLength);
        MemoryMarshal.Write(sector.Span[^4..], descriptor.Trailing);
        await target.WriteAsync((long)offset, sector.Memory, WriteFlags.None, cancellationToken).ConfigureAwait(false);
    }

    private bool IsForbidden(long offset, long count) =>
        offset < VhdxLayout.RegionTable1Offset
        || (offset < _header.LogOffset + _header.LogLength && _header.LogOffset < offset + count);
}
