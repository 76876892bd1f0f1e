using System.Buffers.Binary;
using System.IO.Compression;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Writes a streamOptimized extent from start to end ("Stream-Optimized Compressed"), in the order in which VMware's own
/// programs write it: header that puts the directory at the end, descriptor, grains, each table behind its grains, the
/// directory, the footer with its place, end of stream. Grains and tables of zeroes are left out. Grains are compressed
/// on the thread pool, a batch a job; a bounded number of jobs is under way, and their output is written in order. The
/// header goes to the file last, so that half a stream is not taken for a disk.
/// </summary>
/// <param name="file">An empty file that can grow.</param>
/// <param name="source">Where the bytes come from; what it lacks of the capacity is zeroes.</param>
/// <param name="capacity">Size of the disk, a multiple of the grain.</param>
/// <param name="descriptor">The descriptor; there is room for it.</param>
internal sealed class VmdkStreamWriter(BlockNode file, BlockNode source, long capacity, byte[] descriptor)
{
    /// <summary>Sectors before the first grain, as VMware's programs have it.</summary>
    private const int Overhead = 128;

    private const int GrainSize = VmdkSparseFile.GrainSize;
    private const int JobSize = 16 * GrainSize;
    private const long GrowStep = 64 << 20;

    private static readonly int s_maxJobs = Math.Clamp(2 * Environment.ProcessorCount, 4, 32);

    private readonly uint[] _directory = new uint[DirectoryEntries(capacity)];
    private readonly uint[] _table = new uint[VmdkSparseFile.EntriesPerTable];
    private readonly Queue<Job> _pending = new();
    private readonly Stack<Job> _free = new();
    private long _tableIndex = -1;
    private long _at = Overhead * VmdkLayout.SectorSize;

    /// <summary>Writes it all; durable when the task completes. To be called once.</summary>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        await VmdkSparseFile.GrowAsync(file, _at, cancellationToken).ConfigureAwait(false);
        try
        {
            await WriteGrainsAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            // After a failure: nobody may use a buffer that is given back. Their own failures came too late to matter.
            await Task.WhenAny(Task.WhenAll(_pending.Select(job => job.Work))).ConfigureAwait(false);
            foreach (Job job in _pending.Concat(_free))
            {
                job.Dispose();
            }
        }

        await EndTableAsync(cancellationToken).ConfigureAwait(false);
        await WriteEndAsync(cancellationToken).ConfigureAwait(false);
    }

    private static int DirectoryEntries(long capacity)
    {
        const long Coverage = (long)GrainSize * VmdkSparseFile.EntriesPerTable;
        long entries = (capacity + Coverage - 1) / Coverage;
        return entries <= VmdkLayout.MaxDirectoryEntries
            ? (int)entries
            : throw BlockException.Limit("the grain directory is too large", entries, VmdkLayout.MaxDirectoryEntries);
    }

    private async ValueTask WriteGrainsAsync(CancellationToken cancellationToken)
    {
        long offset = 0;
        while (offset < source.Length)
        {
            BlockExtent extent = await source.MapAsync(offset, source.Length - offset, cancellationToken)
                .ConfigureAwait(false);
            if (extent.IsZero)
            {
                offset += extent.Length;
                continue;
            }

            Job job = _free.TryPop(out Job? used) ? used : new Job();
            _pending.Enqueue(job);
            long start = offset / JobSize * JobSize;
            int count = (int)Math.Min(JobSize, source.Length - start);
            await source.ReadAsync(start, job.Input.Memory[..count], cancellationToken).ConfigureAwait(false);
            job.Start(start, count);
            offset = start + count;
            if (_pending.Count == s_maxJobs)
            {
                await AppendFirstAsync(cancellationToken).ConfigureAwait(false);
            }
        }

        while (_pending.Count > 0)
        {
            await AppendFirstAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask AppendFirstAsync(CancellationToken cancellationToken)
    {
        Job job = _pending.Peek();
        await job.Work.ConfigureAwait(false);
        if (job.Grains.Count > 0)
        {
            long table = job.Offset / GrainSize / VmdkSparseFile.EntriesPerTable; // A job never crosses tables.
            if (table != _tableIndex)
            {
                await EndTableAsync(cancellationToken).ConfigureAwait(false);
                _tableIndex = table;
            }

            foreach ((long grain, int at) in job.Grains)
            {
                _table[grain % VmdkSparseFile.EntriesPerTable] = (uint)((_at + at) / VmdkLayout.SectorSize);
            }

            await AppendAsync(job.Output, cancellationToken).ConfigureAwait(false);
        }

        _free.Push(_pending.Dequeue());
    }

    private async ValueTask EndTableAsync(CancellationToken cancellationToken)
    {
        if (_tableIndex < 0)
        {
            return;
        }

        await AppendMarkerAsync(VmdkMarkerType.GrainTable, VmdkSparseFile.TableSectors, cancellationToken)
            .ConfigureAwait(false);
        _directory[_tableIndex] = (uint)(_at / VmdkLayout.SectorSize);
        var stored = new byte[VmdkSparseFile.TableSectors * VmdkLayout.SectorSize];
        VmdkGrainDirectory.Store(_table, stored);
        await AppendAsync(stored, cancellationToken).ConfigureAwait(false);
        Array.Clear(_table);
        _tableIndex = -1;
    }

    private async ValueTask WriteEndAsync(CancellationToken cancellationToken)
    {
        int sectors = (int)VmdkSparseFile.Sectors((long)_directory.Length * sizeof(uint));
        await AppendMarkerAsync(VmdkMarkerType.GrainDirectory, sectors, cancellationToken).ConfigureAwait(false);
        long directory = _at / VmdkLayout.SectorSize;
        var stored = new byte[sectors * VmdkLayout.SectorSize];
        VmdkGrainDirectory.Store(_directory, stored);
        await AppendAsync(stored, cancellationToken).ConfigureAwait(false);
        await AppendMarkerAsync(VmdkMarkerType.Footer, 1, cancellationToken).ConfigureAwait(false);
        await AppendAsync(MakeHeader((ulong)directory), cancellationToken).ConfigureAwait(false);
        await AppendMarkerAsync(VmdkMarkerType.EndOfStream, 0, cancellationToken).ConfigureAwait(false);
        if (file.Length != _at && !await file.TryResizeAsync(_at, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, $"'{file.Name}' cannot be cut to its length");
        }

        await file.WriteAsync(
            VmdkSparseFile.DescriptorSector * VmdkLayout.SectorSize, descriptor, WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        byte[] header = MakeHeader(VmdkLayout.DirectoryAtEnd);
        await file.WriteAsync(0, header, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Version 3, because ESXi refuses older streams as "too old".</summary>
    private byte[] MakeHeader(ulong directory)
    {
        VmdkSparseHeader header = VmdkSparseFile.MakeHeader(capacity, hasDescriptor: true);
        header.Version = 3;
        header.Flags = (uint)(VmdkFlags.NewlineTest | VmdkFlags.Compressed | VmdkFlags.Markers);
        header.DirectoryOffset = directory;
        header.Overhead = Overhead;
        header.CompressAlgorithm = VmdkLayout.CompressionDeflate;
        return VmdkSparseFile.ToSector(header);
    }

    private ValueTask AppendMarkerAsync(VmdkMarkerType type, int sectors, CancellationToken cancellationToken) =>
        AppendAsync(
            VmdkSparseFile.ToSector(new VmdkMarker { Value = (ulong)sectors, Type = (uint)type }), cancellationToken);

    private async ValueTask AppendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        long end = _at + bytes.Length;
        if (end > (long)uint.MaxValue * VmdkLayout.SectorSize)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the stream is full: its tables can address no more")
            {
                Expected = $"at most {(long)uint.MaxValue * VmdkLayout.SectorSize} bytes",
            };
        }

        if (end > file.Length
            && !await file.TryResizeAsync(end + GrowStep, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"'{file.Name}' cannot grow");
        }

        await file.WriteAsync(_at, bytes, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        _at = end;
    }

    /// <summary>Neighbouring grains on their way through the compressor. Used again and again.</summary>
    private sealed class Job : IDisposable
    {
        private readonly MemoryStream _output = new(JobSize + (JobSize / 8));
        private readonly BufferLease _input = BufferPool.Shared.Rent(JobSize);
        private int _count;

        /// <summary>Room for the grains.</summary>
        public BufferLease Input => _input;

        /// <summary>Guest offset of the first.</summary>
        public long Offset { get; private set; }

        /// <summary>Number of each grain that is not zeroes, and where its marker is in the output.</summary>
        public List<(long Grain, int At)> Grains { get; } = [];

        /// <summary>Markers and compressed grains, each from a sector's start.</summary>
        public ReadOnlyMemory<byte> Output => _output.GetBuffer().AsMemory(0, (int)_output.Length);

        /// <summary>The compressing; completed when there is none.</summary>
        public Task Work { get; private set; } = Task.CompletedTask;

        /// <summary>Begins to compress what is in <see cref="Input"/>.</summary>
        public void Start(long offset, int count)
        {
            Offset = offset;
            _count = count;
            Work = Task.Run(Compress, CancellationToken.None);
        }

        public void Dispose()
        {
            _input.Dispose();
            _output.Dispose();
        }

        private void Compress()
        {
            Grains.Clear();
            _output.SetLength(0);
            int whole = (_count + GrainSize - 1) / GrainSize * GrainSize;
            _input.Span[_count..whole].Clear();
            for (int at = 0; at < whole; at += GrainSize)
            {
                ReadOnlySpan<byte> grain = _input.Span.Slice(at, GrainSize);
                if (grain.ContainsAnyExcept((byte)0))
                {
                    Grains.Add(((Offset + at) / GrainSize, (int)_output.Length));
                    Compress(grain, (ulong)(Offset + at) / VmdkLayout.SectorSize);
                }
            }
        }

        private void Compress(ReadOnlySpan<byte> grain, ulong sector)
        {
            int start = (int)_output.Length;
            _output.SetLength(start + VmdkLayout.GrainMarkerSize);
            _output.Position = _output.Length;
            using (var zlib = new ZLibStream(_output, CompressionLevel.Optimal, leaveOpen: true))
            {
                zlib.Write(grain);
            }

            int size = (int)_output.Length - start - VmdkLayout.GrainMarkerSize;
            _output.SetLength(VmdkSparseFile.Sectors(_output.Length) * VmdkLayout.SectorSize);
            Span<byte> marker = _output.GetBuffer().AsSpan(start);
            BinaryPrimitives.WriteUInt64LittleEndian(marker, sector);
            BinaryPrimitives.WriteInt32LittleEndian(marker[sizeof(ulong)..], size);
        }
    }
}
