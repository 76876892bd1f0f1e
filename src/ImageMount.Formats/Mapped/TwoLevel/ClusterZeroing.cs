using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Makes ranges read as zeroes. A stored cluster stays where it is: the file is zeroed there, and where space may be
/// freed, the host's file system takes it. Others change their entry, where the format has one that says zero.
/// </summary>
internal readonly struct ClusterZeroing
{
    private readonly ClusterImage _image;
    private readonly ClusterGeometry _geometry;
    private readonly ClusterMap _map;
    private readonly ClusterWriter _writer;

    public ClusterZeroing(ClusterImage image, ClusterMap map, ClusterWriter writer)
    {
        _image = image;
        _geometry = image.Geometry;
        _map = map;
        _writer = writer;
    }

    /// <summary>Zeroes from the start of a range; gives the bytes done, 0 when that takes writing.</summary>
    public async ValueTask<long> ZeroAsync(long offset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        Step step = await FindAsync(offset, count, zeroes: true, cancellationToken).ConfigureAwait(false);
        if (step.Stored.Length > 0 && _image.IsPlain)
        {
            await _writer.CheckPlaceAsync(step.Stored, offset, cancellationToken).ConfigureAwait(false);
            ZeroFlags flags = mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None;
            await _image.File.ZeroAsync(step.Stored.Host, step.Stored.Length, flags, cancellationToken)
                .ConfigureAwait(false);
            return step.Stored.Length;
        }

        return step.Done;
    }

    /// <summary>
    /// Gives the space of stored clusters back to the host's file system. They read as zeroes then, or as before.
    /// </summary>
    public async ValueTask DiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        if (!_image.IsPlain)
        {
            return; // Zeroes in the file are not zeroes for the guest.
        }

        long end = offset + count;
        while (offset < end)
        {
            Step step = await FindAsync(offset, end - offset, zeroes: false, cancellationToken).ConfigureAwait(false);
            if (step.Stored.Length > 0)
            {
                await _writer.CheckPlaceAsync(step.Stored, offset, cancellationToken).ConfigureAwait(false);
                await _image.File.DiscardAsync(step.Stored.Host, step.Stored.Length, cancellationToken)
                    .ConfigureAwait(false);
                offset += step.Stored.Length;
            }
            else
            {
                offset += step.Done;
            }
        }
    }

    /// <summary>
    /// Finds the stored run at an offset; or the range that is zero already, or that was made so by changing entries
    /// (<paramref name="zeroes"/>), or that can be left alone.
    /// </summary>
    private async ValueTask<Step> FindAsync(long offset, long count, bool zeroes, CancellationToken cancellationToken)
    {
        while (true)
        {
            await _writer.BeginChangeAsync(cancellationToken).ConfigureAwait(false);
            long table = _image.TableOffset(_image.L1[_geometry.L1Index(offset)], offset);
            if (table == 0)
            {
                if (!zeroes || !_image.ParentCovers(offset))
                {
                    return new Step { Done = Math.Min(count, _geometry.L1End(offset) - offset) };
                }

                if (WholeEnd(offset, count) <= offset || !_image.Encoding.TryMakeZero(parentCovers: true, out _))
                {
                    return default;
                }

                await _writer.MakeTableAsync(offset, cancellationToken).ConfigureAwait(false);
                continue;
            }

            long key = table + _geometry.SliceStart(offset);
            await _image.L2.GetAsync(key).ConfigureAwait(false);
            Step step;
            lock (_image.Sync)
            {
                step = _image.L2.Find(key) is { } slice
                    ? Look(slice, offset, count, zeroes) : new Step { MustRetry = true };
            }

            if (step.Conflict is { } conflict)
            {
                await conflict.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            else if (step.NeedsMapping)
            {
                await _writer.Mapping.EnsureAsync().ConfigureAwait(false);
            }
            else if (!step.MustRetry)
            {
                return step;
            }
        }
    }

    private Step Look(TableSlice slice, long offset, long count, bool zeroes)
    {
        ClusterMap.Piece piece = _map.Decode(slice, offset, count);
        piece = piece with { Length = Math.Min(piece.Length, count) };
        if (piece.Kind == ClusterKind.Invalid)
        {
            throw _image.BadEntry("an L2 entry is invalid", piece.Entry, offset);
        }

        if (piece.IsInPlace(_geometry, offset))
        {
            return new Step { Stored = piece };
        }

        bool covered = _image.ParentCovers(_geometry.RoundDown(offset));
        if (!zeroes || piece.Kind == ClusterKind.Zero || (piece.Kind == ClusterKind.Unallocated && !covered))
        {
            return new Step { Done = piece.Length };
        }

        long end = WholeEnd(offset, count);
        if (end <= offset || !_image.Encoding.TryMakeZero(covered, out ulong entry))
        {
            return default;
        }

        return _writer.Mapping.IsDone
            ? Change(slice, offset, end, piece.Kind, entry, count) : new Step { NeedsMapping = true };
    }

    /// <summary>Gives neighbouring clusters of one kind another entry; not while somebody is filling them.</summary>
    private Step Change(TableSlice slice, long offset, long end, ClusterKind kind, ulong entry, long count)
    {
        long sliceEnd = offset + ((long)(_geometry.SliceEntries - _geometry.SliceIndex(offset)) << _geometry.ClusterBits);
        end = Math.Min(end, sliceEnd);
        if (_writer.Leases.TryFindConflict(offset, end, out LeasesInFlight.Hold other))
        {
            if (other.Start <= offset)
            {
                return new Step { Conflict = other.WaitAsync() };
            }

            end = other.Start;
        }

        // Whether an unallocated entry is enough depends on the parent's end; what lies behind it waits for its turn.
        bool covered = _image.ParentCovers(offset);
        int index = _geometry.SliceIndex(offset);
        long at = offset;
        slice.BeginChange();
        while (at < end && _image.Encoding.Classify(slice.Word(index), out _) == kind && _image.ParentCovers(at) == covered)
        {
            slice.SetWord(index++, entry);
            at += _geometry.ClusterSize;
        }

        slice.EndChange();
        _image.L2.MarkDirty(slice);
        return new Step { Done = Math.Min(at - offset, count) };
    }

    /// <summary>
    /// The end of the last whole cluster from an offset on; the offset itself or less when there is none. The one at
    /// the disk's end is whole when the range reaches that.
    /// </summary>
    private long WholeEnd(long offset, long count)
    {
        if ((offset & (_geometry.ClusterSize - 1)) != 0)
        {
            return offset;
        }

        long end = offset + count;
        return end >= _map.Length ? _geometry.RoundUp(end) : _geometry.RoundDown(end);
    }

    /// <summary>What was found, or what to wait for.</summary>
    private readonly record struct Step
    {
        public ClusterMap.Piece Stored { get; init; }

        public long Done { get; init; }

        public Task? Conflict { get; init; }

        public bool NeedsMapping { get; init; }

        public bool MustRetry { get; init; }
    }
}
