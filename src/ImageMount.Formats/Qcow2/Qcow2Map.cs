using System.Runtime.CompilerServices;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Guest ranges to runs, by L1 and cached L2 tables ("Cluster mapping"). One for the disk, one for each open snapshot.
/// A lookup in cached tables takes no lock, completes synchronously and allocates nothing.
/// </summary>
internal sealed class Qcow2Map : IExtentMap
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Geometry _geometry;
    private readonly int _version;
    private long _length;

    public Qcow2Map(Qcow2Image image, RootTable l1, long length)
    {
        _image = image;
        _geometry = image.Geometry;
        _version = image.Header.Version;
        L1 = l1;
        _length = length;
    }

    /// <inheritdoc/>
    public long Length
    {
        get => Volatile.Read(ref _length);
        set => Volatile.Write(ref _length, value);
    }

    /// <inheritdoc/>
    public BlockNode? Backing => _image.Backing;

    /// <summary>The table that the lookups begin with.</summary>
    public RootTable L1 { get; }

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        TryLookup(guestOffset, count, out Piece piece, out long missing)
            ? new(ToRun(guestOffset, piece))
            : LookupSlowlyAsync(guestOffset, count, missing);

    /// <summary>
    /// Finds the part of a write that can go where the bytes are: stored units whose cluster has a refcount of exactly
    /// one. Only in cached tables. False: none at the beginning of the range, or not known without reading.
    /// </summary>
    public bool TryFindInPlace(long guestOffset, long count, out long hostOffset, out long length)
    {
        Qcow2Geometry g = _geometry;
        hostOffset = length = 0;
        ulong l1Entry = L1[guestOffset >> g.L1Shift];
        if ((l1Entry & Qcow2Layout.CopiedFlag) == 0)
        {
            return false;
        }

        long table = TableOffset(l1Entry, guestOffset);
        long key = SliceKey(table, guestOffset);
        TableSlice? slice = table == 0 ? null : _image.L2.TryFind(key);
        if (slice is null || !slice.TryBeginRead(key, out int version))
        {
            return false;
        }

        Piece piece = Decode(slice, guestOffset, count, onlyCopied: true);
        if (piece.Kind != Qcow2UnitKind.Data || !slice.EndRead(version))
        {
            return false;
        }

        hostOffset = piece.Host;
        length = Math.Min(piece.Length, count);
        return true;
    }

    /// <summary>Host offset of the L2 table that an L1 entry names, checked; 0 when there is none.</summary>
    public long TableOffset(ulong l1Entry, long guestOffset)
    {
        long table = (long)(l1Entry & Qcow2Layout.OffsetMask);
        ulong reserved = Qcow2Layout.L1Reserved | (uint)(_geometry.ClusterSize - 1);
        if ((l1Entry & reserved) != 0)
        {
            ThrowBadL1(l1Entry, guestOffset);
        }

        return table;
    }

    /// <summary>Host offset of the slice of a table that describes a guest offset.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public long SliceKey(long table, long guestOffset)
    {
        long inTable = (guestOffset >> _geometry.ClusterBits & _geometry.L2Entries - 1) << _geometry.L2EntryBits;
        return table + (inTable & -(long)_geometry.SliceSize);
    }

    /// <summary>Index within its slice of the entry that describes a guest offset.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int SliceIndex(long guestOffset) =>
        (int)(guestOffset >> _geometry.ClusterBits & _geometry.SliceEntries - 1);

    /// <summary>An entry of a slice.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Qcow2L2Entry ReadEntry(TableSlice slice, int index) =>
        _geometry.ExtendedL2
            ? new Qcow2L2Entry(slice.Word(2 * index), slice.Word(2 * index + 1))
            : new Qcow2L2Entry(slice.Word(index), 0);

    /// <summary>Stores an entry; within a change of the slice.</summary>
    public void WriteEntry(TableSlice slice, int index, Qcow2L2Entry entry)
    {
        if (_geometry.ExtendedL2)
        {
            slice.SetWord(2 * index, entry.Descriptor);
            slice.SetWord(2 * index + 1, entry.Bitmap);
        }
        else
        {
            slice.SetWord(index, entry.Descriptor);
        }
    }

    /// <summary>Host offset of the entry that describes a guest offset, for messages.</summary>
    public long EntryOffset(long guestOffset)
    {
        long table = (long)(L1[guestOffset >> _geometry.L1Shift] & Qcow2Layout.OffsetMask);
        return table + ((guestOffset >> _geometry.ClusterBits & _geometry.L2Entries - 1) << _geometry.L2EntryBits);
    }

    private async ValueTask<MappedRun> LookupSlowlyAsync(long guestOffset, long count, long missing)
    {
        while (true)
        {
            await _image.L2.GetAsync(missing).ConfigureAwait(false);
            Piece piece;
            lock (_image.Sync)
            {
                // Under the lock nothing is half changed; the slice may only have been evicted again.
                if (!TryLookup(guestOffset, count, out piece, out missing))
                {
                    continue;
                }
            }

            return ToRun(guestOffset, piece);
        }
    }

    /// <summary>Joins what the cached tables say from an offset on. False: a slice is not at hand.</summary>
    private bool TryLookup(long guestOffset, long count, out Piece piece, out long missing)
    {
        Qcow2Geometry g = _geometry;
        piece = default;
        missing = 0;
        for (long done = 0; done < count; done = piece.Length)
        {
            long at = guestOffset + done;
            ulong l1Entry = L1[at >> g.L1Shift];
            long table = l1Entry == 0 ? 0 : TableOffset(l1Entry, at);
            Piece next;
            if (table == 0)
            {
                next = new Piece(Qcow2UnitKind.Unallocated, (at >> g.L1Shift) + 1 << g.L1Shift, 0, default);
                next = next with { Length = Math.Min(next.Length - at, count - done) };
            }
            else
            {
                long key = SliceKey(table, at);
                TableSlice? slice = _image.L2.TryFind(key);
                bool read = false;
                next = default;
                if (slice is not null && slice.TryBeginRead(key, out int version))
                {
                    next = Decode(slice, at, count - done, onlyCopied: false);
                    read = slice.EndRead(version);
                }

                if (!read)
                {
                    missing = key;
                    piece = piece with { Length = Math.Min(piece.Length, count) };
                    return done > 0;
                }
            }

            if (done == 0)
            {
                piece = next;
            }
            else if (next.Kind == piece.Kind && (!HasHost(piece.Kind) || next.Host == piece.Host + piece.Length))
            {
                piece = piece with { Length = piece.Length + next.Length };
            }
            else
            {
                break;
            }

            if (piece.Kind is Qcow2UnitKind.Compressed or Qcow2UnitKind.Invalid)
            {
                break;
            }
        }

        piece = piece with { Length = Math.Min(piece.Length, count) };
        return true;
    }

    /// <summary>
    /// Joins the entries of one slice. What it reads may be torn; the caller asks the slice's version.
    /// </summary>
    private Piece Decode(TableSlice slice, long guestOffset, long count, bool onlyCopied)
    {
        Qcow2Geometry g = _geometry;
        int index = SliceIndex(guestOffset);
        long inCluster = guestOffset & g.ClusterSize - 1;
        int unit = (int)(inCluster >> g.UnitBits);
        Qcow2L2Entry entry = ReadEntry(slice, index);
        Qcow2UnitKind kind = entry.Classify(g, _version, unit, out int units);
        long length = ((long)(unit + units) << g.UnitBits) - inCluster;
        if (onlyCopied && !entry.IsCopied)
        {
            return default;
        }

        if (kind is Qcow2UnitKind.Compressed or Qcow2UnitKind.Invalid)
        {
            return new Piece(kind, g.ClusterSize - inCluster, 0, entry);
        }

        bool hasHost = HasHost(kind);
        long host = hasHost ? entry.HostOffset + inCluster : 0;
        while (length < count && unit + units == g.UnitsPerCluster && ++index < g.SliceEntries)
        {
            Qcow2L2Entry next = ReadEntry(slice, index);
            unit = 0;
            if (next.Classify(g, _version, 0, out units) != kind
                || hasHost && next.HostOffset != host + length
                || onlyCopied && !next.IsCopied)
            {
                break;
            }

            length += (long)units << g.UnitBits;
        }

        return new Piece(kind, length, host, entry);
    }

    private static bool HasHost(Qcow2UnitKind kind) => kind is Qcow2UnitKind.Data or Qcow2UnitKind.ZeroAllocated;

    private MappedRun ToRun(long guestOffset, in Piece piece) => piece.Kind switch
    {
        Qcow2UnitKind.Unallocated => MappedRun.Parent(piece.Length),
        Qcow2UnitKind.Zero => MappedRun.Zero(piece.Length),
        Qcow2UnitKind.ZeroAllocated => MappedRun.AllocatedZero(piece.Length, _image.Payload, piece.Host),
        Qcow2UnitKind.Data => DataRun(guestOffset, piece),
        Qcow2UnitKind.Compressed => CompressedRun(guestOffset, piece),
        _ => throw piece.Entry.Error("an L2 entry is invalid", EntryOffset(guestOffset)),
    };

    private MappedRun DataRun(long guestOffset, in Piece piece)
    {
        BlockNode node = _image.Payload;
        long nodeLength = node.Length;
        if (_image.DataFile is not null)
        {
            if (piece.Host != guestOffset)
            {
                throw piece.Entry.Error("a cluster is not at its own place in the data file", EntryOffset(guestOffset));
            }
        }
        else if (piece.Host < _geometry.ClusterSize || piece.Host >= _geometry.RoundUp(nodeLength))
        {
            throw piece.Entry.Error("a cluster lies outside the file", EntryOffset(guestOffset));
        }

        // The file may end within its last cluster (and a data file anywhere): the rest reads as zeroes.
        // A sector of an encrypted one that is not there in full is not there.
        long stored = _image.Header.CryptMethod == 0 ? nodeLength : nodeLength & -PayloadCipher.Sector;
        long inside = stored - piece.Host;
        if (inside <= 0)
        {
            return MappedRun.Zero(piece.Length);
        }

        return MappedRun.Data(Math.Min(piece.Length, inside), node, piece.Host);
    }

    private MappedRun CompressedRun(long guestOffset, in Piece piece)
    {
        if (_image.DataFile is not null)
        {
            throw piece.Entry.Error("a compressed cluster in an image with a data file", EntryOffset(guestOffset));
        }

        long nodeLength = _image.File.Length;
        if (!piece.Entry.TryGetCompressed(_geometry, out long offset, out int length)
            || offset < _geometry.ClusterSize || offset >= nodeLength)
        {
            throw piece.Entry.Error("a compressed cluster lies outside the file", EntryOffset(guestOffset));
        }

        var unit = new CompressedUnit(
            _image.File, offset, (int)Math.Min(length, nodeLength - offset), guestOffset & -(long)_geometry.ClusterSize,
            _geometry.ClusterSize, _image.Decoder);
        return MappedRun.Compressed(piece.Length, unit);
    }

    private void ThrowBadL1(ulong l1Entry, long guestOffset) =>
        throw BlockException.Invalid(
            "an L1 entry is invalid", L1.Offset + (guestOffset >> _geometry.L1Shift) * 8, $"0x{l1Entry:x16}",
            "a cluster's offset below 2^56");

    /// <summary>Units with one origin.</summary>
    private readonly record struct Piece(Qcow2UnitKind Kind, long Length, long Host, Qcow2L2Entry Entry);
}
