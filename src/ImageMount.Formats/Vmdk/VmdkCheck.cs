using System.Globalization;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Verifies the sparse extents of a disk: directories, tables and grains lie inside their file, no two grains share a
/// place, a compressed grain's marker names it, and the redundant tables agree. Space that no table names is not
/// reported: the format gives grains out at the end and never takes them back, and a hole costs nothing.
/// </summary>
internal static class VmdkCheck
{
    /// <summary>Runs the check.</summary>
    public static async ValueTask<CheckReport> RunAsync(VmdkMap map, CancellationToken cancellationToken)
    {
        var report = new CheckReport { TotalClusters = 0, AllocatedClusters = 0, CompressedClusters = 0 };
        foreach (VmdkExtent extent in map.Extents)
        {
            if (extent is VmdkSparseExtent sparse)
            {
                await new ExtentCheck(sparse, report).RunAsync(cancellationToken).ConfigureAwait(false);
            }
            else if (extent is VmdkSeSparseExtent seSparse)
            {
                await new VmdkSeSparseCheck(seSparse, report).RunAsync(cancellationToken).ConfigureAwait(false);
            }
        }

        return report;
    }

    /// <summary>The check of one extent.</summary>
    private sealed class ExtentCheck
    {
        private readonly VmdkSparseExtent _extent;
        private readonly VmdkHeader _header;
        private readonly BlockNode _node;
        private readonly CheckReport _report;
        private readonly VmdkMarks _marks;
        private readonly HashSet<uint> _tables = [];
        private long _end;
        private uint _previous;

        public ExtentCheck(VmdkSparseExtent extent, CheckReport report)
        {
            _extent = extent;
            _header = extent.Header;
            _node = extent.Node;
            _report = report;

            _marks = new VmdkMarks(_node.Length, _header.IsCompressed ? VmdkLayout.SectorSize : _header.GrainSize);
        }

        public async ValueTask RunAsync(CancellationToken cancellationToken)
        {
            long length = _extent.GuestEnd - _extent.GuestStart;
            _report.TotalClusters += (length + _header.GrainSize - 1) / _header.GrainSize;
            if (_extent.Directory.Damage is { } damage)
            {
                _report.Corruption($"{_node.Name}: {damage}");
            }

            uint[] primary = _extent.Directory.Primary;
            for (int i = 0; i < primary.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (primary[i] != 0)
                {
                    await CheckTableAsync(i, cancellationToken).ConfigureAwait(false);
                }
                else if (_extent.Directory.Redundant is { } redundant && redundant[i] != 0 && !_header.IsUnclean)
                {
                    // Where it leads to a table, it was used in place of the missing one.
                    _report.Corruption($"{_node.Name}: entry {i} of the redundant grain directory leads out of the file");
                }
            }

            if (_extent.FreeOffset < _end)
            {
                _report.Corruption($"{_node.Name}: the header calls the space from {Hex(_extent.FreeOffset)} on free, "
                    + $"but it is used up to {Hex(_end)}");
            }

            _report.ImageEndOffset = Math.Max(_report.ImageEndOffset ?? 0, _end);
        }

        private async ValueTask CheckTableAsync(int index, CancellationToken cancellationToken)
        {
            // Millions of directory entries may lead nowhere, or all to one table: neither an exception for each nor
            // the same table again and again.
            uint sector = _extent.Directory.Primary[index];
            if (!VmdkGrainDirectory.IsInside(sector, _header.TableSize, _node.Length) || !_tables.Add(sector))
            {
                _report.Corruption($"{_node.Name}: grain table {index} (sector {sector}) "
                    + (_tables.Contains(sector) ? "is used twice" : "lies outside the file"));
                return;
            }

            uint[] entries;
            try
            {
                // Through the cache, which has what is committed but not flushed yet.
                LeafTable? table = await _extent.GetTableAsync(index, cancellationToken).ConfigureAwait(false);
                entries = table!.Entries;
            }
            catch (BlockException e)
            {
                Report(e, $"grain table {index}");
                return;
            }

            Extend((long)_extent.Directory.Primary[index] * VmdkLayout.SectorSize, _header.TableSize);
            long start = index * _header.TableCoverage;
            for (int i = 0; i < entries.Length; i++)
            {
                await CheckGrainAsync(entries[i], start + ((long)i * _header.GrainSize), cancellationToken)
                    .ConfigureAwait(false);
            }

            await CheckTwinAsync(index, entries, cancellationToken).ConfigureAwait(false);
        }

        private async ValueTask CheckGrainAsync(uint entry, long start, CancellationToken cancellationToken)
        {
            RunKind kind = _extent.KindOf(entry);
            long left = _extent.GuestEnd - _extent.GuestStart - start;
            if (kind is RunKind.Parent or RunKind.Zero)
            {
                return;
            }

            if (left <= 0)
            {
                _report.Corruption($"{_node.Name}: a grain table entry after the end of the extent is used (sector {entry})");
                return;
            }

            long host = (long)entry * VmdkLayout.SectorSize;
            long size = kind == RunKind.Compressed
                ? await CompressedSizeAsync(host, start, cancellationToken).ConfigureAwait(false)
                : Math.Min(left, _header.GrainSize);
            if (size == 0)
            {
                return;
            }

            _report.AllocatedClusters++;
            _report.CompressedClusters += kind == RunKind.Compressed ? 1 : 0;
            CountFragment(entry, kind);
            if (host + size > _node.Length)
            {
                _report.Corruption($"{_node.Name}: the grain of {Hex(start)} at {Hex(host)} lies outside the file");
                return;
            }

            Extend(host, size);
            if (_header.IsMetadata(host, size))
            {
                _report.Corruption($"{_node.Name}: the grain of {Hex(start)} at {Hex(host)} lies over the metadata");
            }

            if (!_marks.TryTake(host))
            {
                _report.Corruption($"{_node.Name}: the grain of {Hex(start)} at {Hex(host)} is used twice");
            }
        }

        /// <summary>Bytes of a compressed grain with its marker; 0 after reporting why there are none.</summary>
        private async ValueTask<long> CompressedSizeAsync(long host, long start, CancellationToken cancellationToken)
        {
            if (host > _node.Length - VmdkLayout.GrainMarkerSize)
            {
                _report.Corruption($"{_node.Name}: the grain of {Hex(start)} at {Hex(host)} lies outside the file");
                return 0;
            }

            using BufferLease bytes = BufferPool.Shared.Rent(VmdkLayout.GrainMarkerSize);
            try
            {
                await _node.ReadAsync(host, bytes.Memory, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                Report(e, $"the marker at {Hex(host)}");
                return 0;
            }

            var reader = new SpanReader(bytes.Span);
            reader.TryRead(out Le64 sector);
            reader.TryRead(out Le32 size);
            if (sector != (ulong)start / VmdkLayout.SectorSize)
            {
                _report.Corruption($"{_node.Name}: the marker at {Hex(host)} names sector {sector}, not that of {Hex(start)}");
                return 0;
            }

            return VmdkLayout.GrainMarkerSize + (long)size;
        }

        /// <summary>
        /// The redundant table says the same, unless the extent was not closed: then its new entries may be older or
        /// newer by what was not flushed.
        /// </summary>
        private async ValueTask CheckTwinAsync(int index, uint[] entries, CancellationToken cancellationToken)
        {
            uint twin = _extent.Directory.Redundant?[index] ?? 0;
            if (twin == 0 || twin == _extent.Directory.Primary[index] || _header.IsUnclean)
            {
                return;
            }

            try
            {
                uint[] copy = await _extent.ReadTableAsync(twin, cancellationToken).ConfigureAwait(false);
                int differing = entries.Zip(copy).Count(pair => pair.First != pair.Second);
                if (differing != 0)
                {
                    _report.Corruption($"{_node.Name}: the redundant copy of grain table {index} differs in {differing} entries");
                }

                Extend((long)twin * VmdkLayout.SectorSize, _header.TableSize);
            }
            catch (BlockException e)
            {
                Report(e, $"the redundant copy of grain table {index}");
            }
        }

        private void CountFragment(uint entry, RunKind kind)
        {
            uint grainSectors = (uint)(_header.GrainSize / VmdkLayout.SectorSize);
            if (kind == RunKind.Data && _previous != 0 && entry != _previous + grainSectors)
            {
                _report.FragmentedClusters = (_report.FragmentedClusters ?? 0) + 1;
            }

            _previous = entry;
        }

        private void Extend(long offset, long count) => _end = Math.Max(_end, offset + count);

        private void Report(BlockException e, string what)
        {
            if (e.Kind is BlockErrorKind.InvalidData or BlockErrorKind.OutOfRange)
            {
                _report.Corruption($"{what}: {e.Describe()}");
            }
            else
            {
                _report.Error($"{what}: {e.Describe()}");
            }
        }

        private static string Hex(long value) => "0x" + value.ToString("x", CultureInfo.InvariantCulture);
    }
}
