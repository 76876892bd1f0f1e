using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// One try, under the image's lock, to find the place for a write whose L2 table is our own. Either a target comes out,
/// or what has to be waited for.
/// </summary>
internal readonly ref struct Qcow2Placement
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Geometry _geometry;
    private readonly Qcow2Map _map;
    private readonly Qcow2Writer _writer;
    private readonly long _offset;
    private readonly long _count;

    public Qcow2Placement(Qcow2Image image, Qcow2Map map, Qcow2Writer writer, long offset, long count)
    {
        _image = image;
        _geometry = image.Geometry;
        _map = map;
        _writer = writer;
        _offset = offset;
        _count = count;
    }

    /// <summary>True with a target; false: wait for the conflict, or satisfy the need, and try again.</summary>
    /// <exception cref="BlockException">InvalidData: the tables are damaged, and nothing may be written.</exception>
    public bool TryPlace(out WriteTarget target, out Task? conflict, out Qcow2Need need)
    {
        target = default;
        conflict = null;
        need = default;
        ulong l1Entry = _map.L1[_offset >> _geometry.L1Shift];
        TableSlice? slice = Qcow2Tables.IsOwn(l1Entry)
            ? _image.L2.Find(_map.SliceKey(_map.TableOffset(l1Entry, _offset), _offset))
            : null;
        if (slice is null)
        {
            return false; // Changed or evicted meanwhile.
        }

        int index = _map.SliceIndex(_offset);
        int unit = (int)((_offset & _geometry.ClusterSize - 1) >> _geometry.UnitBits);
        Qcow2L2Entry entry = _map.ReadEntry(slice, index);
        Qcow2UnitKind kind = entry.Classify(_geometry, _image.Header.Version, unit, out int units);
        if (kind == Qcow2UnitKind.Invalid)
        {
            throw entry.Error("an L2 entry is invalid", _map.EntryOffset(_offset));
        }

        if (entry.IsCopied && !entry.IsCompressed && entry.HasPlace || _image.DataFile is not null)
        {
            CheckPlace(entry);
            if (kind != Qcow2UnitKind.Data)
            {
                return TryReuse(slice, index, unit, out target, out conflict);
            }

            target = InPlace(entry, unit, units);
            return true;
        }

        return TryFresh(slice, index, out target, out conflict, out need);
    }

    /// <summary>Units that are stored in a cluster of our own: write there.</summary>
    private WriteTarget InPlace(Qcow2L2Entry entry, int unit, int units)
    {
        long inCluster = _offset & _geometry.ClusterSize - 1;
        long length = Math.Min(_count, ((long)(unit + units) << _geometry.UnitBits) - inCluster);
        return new WriteTarget(_image.Payload, PlaceOf(entry) + inCluster, length, null);
    }

    /// <summary>
    /// Units that have a place of their own but are not stored there yet: a preallocated zero cluster, subclusters of a
    /// cluster of our own, anything in a data file.
    /// </summary>
    private bool TryReuse(TableSlice slice, int index, int unit, out WriteTarget target, out Task? conflict)
    {
        long start = _offset & -(long)_geometry.UnitSize;
        long limit = Math.Min(_offset + _count, (_offset | (uint)(_geometry.ClusterSize - 1)) + 1);
        long end = start;
        Qcow2L2Entry entry = _map.ReadEntry(slice, index);
        for (; end < limit && unit < _geometry.UnitsPerCluster; unit++, end += _geometry.UnitSize)
        {
            if (entry.Classify(_geometry, _image.Header.Version, unit, out _) == Qcow2UnitKind.Data)
            {
                break;
            }
        }

        // With standard entries neighbours that are alike join.
        while (!_geometry.ExtendedL2 && end < _offset + _count && ++index < _geometry.SliceEntries)
        {
            Qcow2L2Entry next = _map.ReadEntry(slice, index);
            Qcow2UnitKind kind = next.Classify(_geometry, _image.Header.Version, 0, out _);
            bool same = _image.DataFile is not null
                ? kind is Qcow2UnitKind.Unallocated or Qcow2UnitKind.Zero or Qcow2UnitKind.ZeroAllocated
                : kind == Qcow2UnitKind.ZeroAllocated && next.IsCopied
                    && next.HostOffset == entry.HostOffset + (end - start)
                    && !_writer.Allocator.Metadata.Contains(next.HostOffset >> _geometry.ClusterBits, 1)
                    && next.HostOffset + _geometry.ClusterSize <= _image.File.Length;
            if (!same)
            {
                break;
            }

            end += _geometry.ClusterSize;
        }

        long host = PlaceOf(entry) + (start & _geometry.ClusterSize - 1);
        return TryLease(start, start, end, end, host, default, out target, out conflict);
    }

    /// <summary>Clusters without a place of their own: new ones, as many neighbours as there are in a row.</summary>
    private bool TryFresh(TableSlice slice, int index, out WriteTarget target, out Task? conflict, out Qcow2Need need)
    {
        target = default;
        need = default;
        long holdStart = _offset & -(long)_geometry.ClusterSize;
        long holdEnd = holdStart;
        bool whole = false;
        for (; holdEnd < _offset + _count && index < _geometry.SliceEntries; index++, holdEnd += _geometry.ClusterSize)
        {
            Qcow2L2Entry entry = _map.ReadEntry(slice, index);
            Qcow2UnitKind kind = entry.Classify(_geometry, _image.Header.Version, 0, out _);
            if (kind == Qcow2UnitKind.Invalid || !entry.IsCompressed && entry.IsCopied && entry.HasPlace)
            {
                break;
            }

            // What a shared or compressed cluster stores has to come along, so all of it is written anew.
            if (_geometry.ExtendedL2 && (entry.IsCompressed || entry.StoredMask != 0))
            {
                whole = holdEnd == holdStart;
                holdEnd += whole ? _geometry.ClusterSize : 0;
                break;
            }
        }

        if (_writer.Leases.TryFindConflict(holdStart, holdEnd, out LeasesInFlight.Hold other))
        {
            if (other.Start <= _offset)
            {
                conflict = other.WaitAsync();
                return false;
            }

            holdEnd = other.Start & -(long)_geometry.ClusterSize;
        }

        conflict = null;
        if (holdEnd <= holdStart)
        {
            conflict = other.WaitAsync();
            return false;
        }

        long clusters = holdEnd - holdStart >> _geometry.ClusterBits;
        if (!_writer.Allocator.TryAllocate(clusters, out Qcow2Allocation fresh, out need))
        {
            return false;
        }

        holdEnd = holdStart + (fresh.Count << _geometry.ClusterBits);
        long start = whole ? holdStart : _offset & -(long)_geometry.UnitSize;
        long unitEnd = _offset + _count + _geometry.UnitSize - 1 & -(long)_geometry.UnitSize;
        long end = whole ? holdEnd : Math.Min(holdEnd, unitEnd);
        long host = (fresh.First << _geometry.ClusterBits) + (start - holdStart);
        return TryLease(holdStart, start, end, holdEnd, host, fresh, out target, out conflict);
    }

    private bool TryLease(
        long holdStart, long start, long end, long holdEnd, long host, Qcow2Allocation fresh, out WriteTarget target,
        out Task? conflict)
    {
        target = default;
        conflict = null;
        if (_writer.Leases.TryFindConflict(holdStart, holdEnd, out LeasesInFlight.Hold other))
        {
            if (fresh.Count > 0)
            {
                throw new InvalidOperationException("clusters were allocated for a range that is held");
            }

            if (other.Start <= _offset)
            {
                conflict = other.WaitAsync();
                return false;
            }

            end = holdEnd = other.Start;
        }

        if (_image.DataFile is not null)
        {
            end = Math.Min(end, Math.Max(_map.Length, _offset + _count)); // The file ends where the disk does.
        }

        LeasesInFlight.Hold hold = _writer.Leases.Add(holdStart, holdEnd);
        var lease = new Qcow2Lease(_writer, hold, start, end, host, fresh);
        target = new WriteTarget(
            _image.Payload, host + (_offset - start), Math.Min(_count, end - _offset), lease);
        return true;
    }

    /// <summary>Where an entry's cluster is; in a data file, always at its own guest offset.</summary>
    private long PlaceOf(Qcow2L2Entry entry) =>
        _image.DataFile is null ? entry.HostOffset : _offset & -(long)_geometry.ClusterSize;

    /// <summary>Refuses a place where payload must not be.</summary>
    private void CheckPlace(Qcow2L2Entry entry)
    {
        if (_image.DataFile is not null)
        {
            if (entry.HasPlace && entry.HostOffset != (_offset & -(long)_geometry.ClusterSize) || entry.IsCompressed)
            {
                throw entry.Error("a cluster is not at its own place in the data file", _map.EntryOffset(_offset));
            }

            return;
        }

        long host = entry.HostOffset;
        if (host == 0 || host >= _image.File.Length)
        {
            throw entry.Error("a cluster lies outside the file", _map.EntryOffset(_offset));
        }

        if (_writer.Allocator.Metadata.Contains(host >> _geometry.ClusterBits, 1))
        {
            throw entry.Error("a cluster of the disk lies where metadata is", _map.EntryOffset(_offset));
        }
    }
}
