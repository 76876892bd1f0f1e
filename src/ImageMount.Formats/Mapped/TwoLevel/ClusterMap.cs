using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Guest ranges to runs. A lookup in cached tables takes no lock, completes synchronously and allocates nothing.
/// </summary>
internal sealed class ClusterMap : IExtentMap
{
    private readonly ClusterImage _image;
    private readonly ClusterGeometry _geometry;
    private readonly ClusterEncoding _encoding;
    private long _length;

    public ClusterMap(ClusterImage image, long length)
    {
        _image = image;
        _geometry = image.Geometry;
        _encoding = image.Encoding;
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

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        TryLookup(guestOffset, count, out Piece piece, out long missing)
            ? new(ToRun(guestOffset, piece))
            : LookupSlowlyAsync(guestOffset, count, missing);

    /// <summary>
    /// Finds the part of a write that can go where the bytes are. Only in cached tables. False: there is none at the
    /// beginning of the range, or it is not known without reading.
    /// </summary>
    public bool TryFindInPlace(long guestOffset, long count, out long hostOffset, out long length)
    {
        hostOffset = length = 0;
        long table = _image.TableOffset(_image.L1[_geometry.L1Index(guestOffset)], guestOffset);
        long key = table + _geometry.SliceStart(guestOffset);
        TableSlice? slice = table == 0 ? null : _image.L2.TryFind(key);
        if (slice is null || !slice.TryBeginRead(key, out int version))
        {
            return false;
        }

        Piece piece = Decode(slice, guestOffset, count);
        if (!piece.IsInPlace(_geometry, guestOffset) || !slice.EndRead(version))
        {
            return false;
        }

        hostOffset = piece.Host;
        length = Math.Min(piece.Length, count);
        return true;
    }

    /// <summary>
    /// Joins the entries of one slice. Without the lock, what it reads may be torn; the caller asks the slice's version.
    /// </summary>
    public Piece Decode(TableSlice slice, long guestOffset, long count)
    {
        int index = _geometry.SliceIndex(guestOffset);
        long inCluster = guestOffset & (_geometry.ClusterSize - 1);
        ulong entry = slice.Word(index);
        ClusterKind kind = _encoding.Classify(entry, out long host);
        long length = _geometry.ClusterSize - inCluster;
        if (kind is ClusterKind.Compressed or ClusterKind.Invalid)
        {
            return new Piece(kind, length, host, entry);
        }

        host += kind == ClusterKind.Data ? inCluster : 0;
        while (length < count && ++index < _geometry.SliceEntries)
        {
            if (_encoding.Classify(slice.Word(index), out long next) != kind
                || (kind == ClusterKind.Data && next != host + length))
            {
                break;
            }

            length += _geometry.ClusterSize;
        }

        return new Piece(kind, length, host, entry);
    }

    private async ValueTask<MappedRun> LookupSlowlyAsync(long guestOffset, long count, long missing)
    {
        while (true)
        {
            try
            {
                await _image.L2.GetAsync(missing).ConfigureAwait(false);
            }
            catch (BlockException e) when (_image.IsLenient && e.Kind == BlockErrorKind.InvalidData)
            {
                // The table that the L1 entry names is not in the file: as if there were none.
                return MappedRun.Parent(Math.Min(count, _geometry.RoundDown(guestOffset) + _geometry.ClusterSize - guestOffset));
            }

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
        piece = default;
        missing = 0;
        for (long done = 0; done < count; done = piece.Length)
        {
            long at = guestOffset + done;
            ulong l1Entry = _image.L1[_geometry.L1Index(at)];
            long table = l1Entry == 0 ? 0 : _image.TableOffset(l1Entry, at);
            Piece next;
            if (table == 0)
            {
                next = new Piece(ClusterKind.Unallocated, Math.Min(_geometry.L1End(at) - at, count - done), 0, 0);
            }
            else
            {
                long key = table + _geometry.SliceStart(at);
                TableSlice? slice = _image.L2.TryFind(key);
                bool read = false;
                next = default;
                if (slice is not null && slice.TryBeginRead(key, out int version))
                {
                    next = Decode(slice, at, count - done);
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
            else if (next.Kind == piece.Kind
                && (next.Kind != ClusterKind.Data || next.Host == piece.Host + piece.Length))
            {
                piece = piece with { Length = piece.Length + next.Length };
            }
            else
            {
                break;
            }

            if (piece.Kind is ClusterKind.Compressed or ClusterKind.Invalid)
            {
                break;
            }
        }

        piece = piece with { Length = Math.Min(piece.Length, count) };
        return true;
    }

    private MappedRun ToRun(long guestOffset, in Piece piece) => piece.Kind switch
    {
        ClusterKind.Unallocated => MappedRun.Parent(piece.Length),
        ClusterKind.Zero => MappedRun.Zero(piece.Length),
        ClusterKind.Data => DataRun(guestOffset, piece),
        ClusterKind.Compressed => CompressedRun(guestOffset, piece),
        _ when _image.IsLenient => MappedRun.Parent(piece.Length),
        _ => throw _image.BadEntry("an L2 entry is invalid", piece.Entry, guestOffset),
    };

    private MappedRun DataRun(long guestOffset, in Piece piece)
    {
        long inCluster = guestOffset & (_geometry.ClusterSize - 1);
        long inside = _image.File.Length - piece.Host;
        if (inside <= -inCluster)
        {
            return _image.IsLenient
                ? MappedRun.Parent(Math.Min(piece.Length, _geometry.ClusterSize - inCluster))
                : throw _image.BadEntry("a cluster lies outside the file", piece.Entry, guestOffset);
        }

        if (!_image.IsPlain)
        {
            // What is cut off is not zeroes, and would turn into something else when the file grows.
            inside = ((inside + inCluster) & -PayloadCipher.Sector) - inCluster;
            if (inside <= 0)
            {
                throw _image.BadEntry("an encrypted cluster is cut off by the end of the file", piece.Entry, guestOffset);
            }
        }

        // The file may end within its last cluster: the rest reads as zeroes.
        return inside > 0
            ? MappedRun.Data(Math.Min(piece.Length, inside), _image.File, piece.Host)
            : MappedRun.Zero(Math.Min(piece.Length, _geometry.ClusterSize - inCluster));
    }

    private MappedRun CompressedRun(long guestOffset, in Piece piece)
    {
        int length = _encoding.CompressedLength(piece.Entry);
        if (length == 0 || piece.Host > _image.File.Length - length)
        {
            throw _image.BadEntry("a compressed cluster lies outside the file", piece.Entry, guestOffset);
        }

        var unit = new CompressedUnit(
            _image.File, piece.Host, length, _geometry.RoundDown(guestOffset), _geometry.ClusterSize, _image.Decoder!);
        return MappedRun.Compressed(piece.Length, unit);
    }

    /// <summary>Guest bytes with one origin, as the tables say.</summary>
    internal readonly record struct Piece(ClusterKind Kind, long Length, long Host, ulong Entry)
    {
        /// <summary>
        /// True when a write may go where the bytes are. A cluster that does not lie on a cluster's border (other
        /// programs may have made such) gets a new place instead: it could share its ends with something else.
        /// </summary>
        public bool IsInPlace(ClusterGeometry geometry, long guestOffset) =>
            Kind == ClusterKind.Data && ((Host - guestOffset) & (geometry.ClusterSize - 1)) == 0;
    }
}
