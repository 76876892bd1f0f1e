using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Goes through both levels of tables in the file: everything lies inside it, and nothing is used twice. Where asked to,
/// entries that lead nowhere become unallocated, which is how a format repairs what a crash left. Works on the file, so
/// whoever has changed tables in memory writes them back first.
/// </summary>
internal sealed class ClusterCheck
{
    private const int Step = 64 << 10;
    private readonly BlockNode _file;
    private readonly ClusterGeometry _geometry;
    private readonly ClusterEncoding _encoding;
    private readonly RootTable _l1;
    private readonly long _length;
    private readonly ClusterMarks _shared = new();
    private long _expected;

    /// <summary>Makes a check.</summary>
    /// <param name="image">The image.</param>
    /// <param name="length">Size of the disk.</param>
    /// <param name="unit">Unit of <see cref="Marks"/>, bytes; places are multiples of it, but for compressed clusters.</param>
    public ClusterCheck(ClusterImage image, long length, int unit)
    {
        _file = image.File;
        _geometry = image.Geometry;
        _encoding = image.Encoding;
        _l1 = image.L1;
        _length = length;
        Unit = unit;
    }

    /// <summary>True: entries that lead nowhere are set to 0 in the file, and are not reported.</summary>
    public bool Repairs { get; init; }

    /// <summary>What was found.</summary>
    public CheckReport Report { get; } =
        new() { TotalClusters = 0, AllocatedClusters = 0, CompressedClusters = 0, FragmentedClusters = 0 };

    /// <summary>Entries that were repaired.</summary>
    public long Repaired { get; private set; }

    /// <summary>Bytes of a mark.</summary>
    public int Unit { get; }

    /// <summary>Units that are used, but for compressed clusters.</summary>
    public ClusterMarks Marks { get; } = new();

    /// <summary>First byte after everything that is used.</summary>
    public long End { get; private set; }

    /// <summary>Notes a structure besides the L2 tables: the header, the L1 table.</summary>
    public void Note(string what, long offset, long count)
    {
        if (!TryUse(offset, count))
        {
            Report.Corruption($"{what} at 0x{offset:x} lies over something else");
        }
    }

    /// <summary>Runs it.</summary>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        Report.TotalClusters = (_length >> _geometry.ClusterBits) + ((_length & (_geometry.ClusterSize - 1)) == 0 ? 0 : 1);
        for (int i = 0; i < _l1.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ulong entry = _l1[i];
            if (!_encoding.TryGetTable(entry, out long table) || (table != 0 && table > _file.Length - _geometry.L2Size))
            {
                await FixAsync($"L1 entry {i}", entry, _l1.Offset + (i * sizeof(ulong)), cancellationToken)
                    .ConfigureAwait(false);
                if (Repairs)
                {
                    _l1.Set(i, 0);
                }
            }
            else if (table != 0)
            {
                if (!TryUse(table, _geometry.L2Size))
                {
                    Report.Corruption($"the L2 table at 0x{table:x} (L1 entry {i}) lies over something else");
                    continue; // Not the same table again for each of millions of entries.
                }

                await CheckTableAsync(table, (long)i << _geometry.L1Shift, cancellationToken).ConfigureAwait(false);
            }
        }

        Report.ImageEndOffset = End;
    }

    private async ValueTask CheckTableAsync(long table, long guestStart, CancellationToken cancellationToken)
    {
        _expected = 0; // Order counts within a table, as qemu-img counts it.
        using BufferLease buffer = BufferPool.Shared.Rent(Math.Min(Step, _geometry.L2Size));
        for (int at = 0; at < _geometry.L2Size;)
        {
            BlockExtent extent = await _file.MapAsync(table + at, _geometry.L2Size - at, cancellationToken)
                .ConfigureAwait(false);
            if (extent.IsZero && extent.Length >= sizeof(ulong))
            {
                at += (int)extent.Length & -sizeof(ulong); // Holes: a table may be a gigabyte of nothing.
                continue;
            }

            Memory<byte> part = buffer.Memory[..Math.Min(buffer.Memory.Length, _geometry.L2Size - at)];
            try
            {
                await _file.ReadAsync(table + at, part, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e) when (e.Kind != BlockErrorKind.Cancelled)
            {
                Report.Error($"the L2 table at 0x{table:x}: {e.Describe()}");
                return;
            }

            for (int k = 0; k < part.Length; k += sizeof(ulong))
            {
                ulong entry = _encoding.Order.Read(part.Span[k..]);
                if (entry != 0)
                {
                    long guest = guestStart + ((long)((at + k) / sizeof(ulong)) << _geometry.ClusterBits);
                    await CheckEntryAsync(entry, table + at + k, guest, cancellationToken).ConfigureAwait(false);
                }
            }

            at += part.Length;
        }
    }

    private async ValueTask CheckEntryAsync(
        ulong entry, long place, long guestOffset, CancellationToken cancellationToken)
    {
        ClusterKind kind = _encoding.Classify(entry, out long host);
        switch (kind)
        {
            case ClusterKind.Unallocated or ClusterKind.Zero:
                return;
            case ClusterKind.Data when host < _file.Length:
                CountAllocated(guestOffset, host);
                if (!TryUse(host, _geometry.ClusterSize))
                {
                    Report.Corruption(
                        $"the cluster at 0x{host:x} (guest offset 0x{guestOffset:x}) lies over something else");
                }

                return;
            case ClusterKind.Compressed when _encoding.CompressedLength(entry) is > 0 and int length
                && host <= _file.Length - length:
                CountAllocated(guestOffset, host);
                Report.CompressedClusters++;
                CheckCompressed(host, length, guestOffset);
                return;
            default:
                await FixAsync($"the L2 entry of guest offset 0x{guestOffset:x}", entry, place, cancellationToken)
                    .ConfigureAwait(false);
                return;
        }
    }

    /// <summary>Compressed clusters share the units at their ends with one another, but with nothing else.</summary>
    private void CheckCompressed(long host, int length, long guestOffset)
    {
        long first = host / Unit;
        long count = ((host + length - 1) / Unit) - first + 1;
        End = Math.Max(End, host + length);
        _shared.TryMark(first, count);
        if (Marks.ContainsAny(first, count))
        {
            Report.Corruption(
                $"the compressed cluster at 0x{host:x} (guest offset 0x{guestOffset:x}) lies over something else");
        }
    }

    private void CountAllocated(long guestOffset, long host)
    {
        if (guestOffset >= _length)
        {
            return; // Behind the disk's end: room, but nothing of the disk.
        }

        Report.AllocatedClusters++;
        if (_expected != 0 && host != _expected)
        {
            Report.FragmentedClusters++;
        }

        _expected = host + _geometry.ClusterSize;
    }

    private bool TryUse(long offset, long count)
    {
        long first = offset / Unit;
        long units = ((offset + count - 1) / Unit) - first + 1;
        End = Math.Max(End, offset + count);
        bool fresh = Marks.TryMark(first, units);
        return !_shared.ContainsAny(first, units) && fresh;
    }

    private async ValueTask FixAsync(string what, ulong entry, long place, CancellationToken cancellationToken)
    {
        if (!Repairs)
        {
            Report.Corruption($"{what} leads nowhere (0x{entry:x16} at 0x{place:x})");
            return;
        }

        await _file.WriteAsync(place, new byte[sizeof(ulong)], WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        Repaired++;
    }
}
