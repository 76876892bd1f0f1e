using System.Buffers.Binary;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Writes changes of the tables to the log, then to their places. One entry holds everything that changed at one
/// moment, so it counts whole or not at all; what the entry before it said is durable in place when it is written, so
/// every entry is a sequence of its own. No entry takes more than half the log: the newest whole one is never
/// overwritten.
/// </summary>
/// <remarks>
/// The header announces the log only once there is an entry to find: an announced log without one would have to be
/// taken for damaged (2.3.3). Not for several callers at once.
/// </remarks>
internal sealed class VhdxLogWriter
{
    /// <summary>Most sectors in an entry: 4 MiB.</summary>
    private const int MaxSectors = 1024;

    private const int Sector = VhdxLayout.LogSectorSize;

    private readonly BlockNode _file;
    private readonly VhdxHeaderWriter _headers;
    private Guid _guid;
    private long _at;
    private ulong _sequenceNumber;

    public VhdxLogWriter(BlockNode file, VhdxHeaderWriter headers)
    {
        _file = file;
        _headers = headers;
        long half = Math.Min(headers.Current.LogLength / Sector / 2, MaxSectors);
        Capacity = (int)(half - VhdxLogEntry.DescriptorSectorsFor(half));
    }

    /// <summary>Most changed sectors that fit into one entry.</summary>
    public int Capacity { get; }

    /// <summary>
    /// Makes changes durable: entry, barrier, places. The barrier behind the places is whoever comes next's: until then
    /// the entry stands for them.
    /// </summary>
    /// <param name="changes">What changed; not more than <see cref="Capacity"/>.</param>
    /// <param name="fileLength">The file is durably this long.</param>
    /// <param name="lastOffset">Everything fits into this much.</param>
    public async ValueTask WriteAsync(TableCapture changes, long fileLength, long lastOffset)
    {
        if (_guid == Guid.Empty)
        {
            _guid = Guid.NewGuid();
        }

        long start = _at;
        try
        {
            await WriteEntryAsync(changes, fileLength, lastOffset).ConfigureAwait(false);
            await _file.FlushAsync().ConfigureAwait(false);
        }
        catch
        {
            _at = start; // The next one goes to the same place, so that the one before this stays whole.
            throw;
        }

        if (_headers.Current.LogGuid != _guid)
        {
            Guid guid = _guid;
            await _headers.UpdateAsync(old => old with { LogGuid = guid }).ConfigureAwait(false);
        }

        await changes.WriteAsync(_file, CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>Makes the places durable and says that the log is empty.</summary>
    public async ValueTask CloseAsync()
    {
        if (_headers.Current.LogGuid == Guid.Empty)
        {
            return;
        }

        await _file.FlushAsync().ConfigureAwait(false);
        await _headers.UpdateAsync(static old => old with { LogGuid = Guid.Empty }).ConfigureAwait(false);
        _guid = Guid.Empty;
    }

    private async ValueTask WriteEntryAsync(TableCapture changes, long fileLength, long lastOffset)
    {
        int descriptorSectors = (int)VhdxLogEntry.DescriptorSectorsFor(changes.Count);
        int length = (descriptorSectors + changes.Count) * Sector;
        using BufferLease bytes = BufferPool.Shared.Rent(length);
        Store(bytes.Span, changes, descriptorSectors, fileLength, lastOffset);
        long logLength = _headers.Current.LogLength;
        int first = (int)Math.Min(length, logLength - _at);
        await _file.WriteAsync(_headers.Current.LogOffset + _at, bytes.Memory[..first]).ConfigureAwait(false);
        if (first < length)
        {
            await _file.WriteAsync(_headers.Current.LogOffset, bytes.Memory[first..]).ConfigureAwait(false);
        }

        _at = (_at + length) % logLength;
    }

    private void Store(Span<byte> entry, TableCapture changes, int descriptorSectors, long fileLength, long lastOffset)
    {
        _sequenceNumber++;
        entry[..(descriptorSectors * Sector)].Clear();
        for (int i = 0; i < changes.Count; i++)
        {
            ReadOnlySpan<byte> change = changes.BytesAt(i);
            var descriptor = new VhdxRawDescriptor
            {
                Signature = VhdxLayout.DataDescriptorSignature,
                Trailing = MemoryMarshal.Read<Le32>(change[^4..]),
                LeadingOrLength = MemoryMarshal.Read<Le64>(change),
                FileOffset = (ulong)changes.KeyAt(i),
                SequenceNumber = _sequenceNumber,
            };
            MemoryMarshal.Write(
                entry[(VhdxLayout.LogEntryHeaderSize + (i * VhdxLayout.LogDescriptorSize))..], descriptor);
            Span<byte> sector = entry.Slice((descriptorSectors + i) * Sector, Sector);
            change.CopyTo(sector);
            BinaryPrimitives.WriteUInt32LittleEndian(sector, VhdxLayout.DataSectorSignature);
            BinaryPrimitives.WriteUInt32LittleEndian(sector[4..], (uint)(_sequenceNumber >> 32));
            BinaryPrimitives.WriteUInt32LittleEndian(sector[^4..], (uint)_sequenceNumber);
        }

        var head = new VhdxRawLogEntry
        {
            Signature = VhdxLayout.LogEntrySignature,
            EntryLength = (uint)entry.Length,
            Tail = (uint)_at,
            SequenceNumber = _sequenceNumber,
            DescriptorCount = (uint)changes.Count,
            LogGuid = _guid,
            FlushedFileOffset = (ulong)(fileLength & -(long)VhdxLayout.MiB),
            LastFileOffset = (ulong)lastOffset,
        };
        MemoryMarshal.Write(entry, head);
        head.Checksum = VhdxLayout.Checksum(entry);
        MemoryMarshal.Write(entry, head);
    }
}
