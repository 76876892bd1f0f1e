using Microsoft.Win32.SafeHandles;

namespace ImageMount.TestSupport.Crash;

/// <summary>What may be lost in a crash.</summary>
public enum CrashPolicy
{
    /// <summary>Everything that was not flushed is lost.</summary>
    DropAll,

    /// <summary>Everything reached the disk.</summary>
    KeepAll,

    /// <summary>Each sector that was not flushed is, by a seed, as it was or in any of its later versions.</summary>
    Seeded,
}

/// <summary>
/// One change that reached a simulated file: sectors in their new versions, a new length, or a flush.
/// </summary>
/// <param name="File">The file.</param>
/// <param name="Operation">Write, Zero, Discard, Flush or Resize.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Count">Bytes; the new length for a resize.</param>
/// <param name="FirstSector">Index of the first changed sector.</param>
/// <param name="Sectors">Whole new sectors.</param>
/// <param name="NewLength">Length of the file afterwards.</param>
public sealed record CrashOperation(
    CrashDevice File, TestOperation Operation, long Offset, long Count, long FirstSector, byte[][] Sectors,
    long NewLength)
{
    /// <inheritdoc/>
    public override string ToString() => File.Name + (Operation == TestOperation.Flush
        ? ": flush" : $": {Operation.ToString().ToLowerInvariant()} 0x{Offset:x}+0x{Count:x}");
}

/// <summary>
/// A simulated file that forgets: what was written since the last flush may, after a crash, be there or not, sector by
/// sector and in any order. It records every change, so that a test can ask for the state after a crash at any of
/// them. It can also refuse operations, as a failing or full disk does. Several such files may make up one disk:
/// <see cref="CrashFiles"/>; then "the changes" are those of all of them.
/// </summary>
public sealed class CrashDevice : BlockDevice
{
    private static readonly byte[] s_zeroSector = new byte[SectorStore.SectorSize];
    private readonly SectorStore _content;
    private readonly SectorStore _initial;

    /// <summary>A file with this content, all of it durable, and no others beside it.</summary>
    public CrashDevice(byte[] content)
        : this(new CrashFiles(), "image", new SectorStore(content))
    {
    }

    internal CrashDevice(CrashFiles files, string name, SectorStore initial)
    {
        Files = files;
        Name = name;
        _initial = initial;
        _content = new SectorStore(initial);
        Index = files.Add(this);
    }

    /// <summary>The file's name, without a folder.</summary>
    public string Name { get; }

    /// <summary>This file and those beside it.</summary>
    public CrashFiles Files { get; }

    /// <summary>
    /// Asked before every change and read, with the number of changes so far: an exception to throw instead, or null.
    /// </summary>
    public Func<int, TestRequest, BlockException?>? Fail { get; set; }

    /// <summary>True: every request first leaves the caller's thread.</summary>
    public bool CompletesAsynchronously { get; set; }

    /// <summary>Capabilities to declare.</summary>
    public BlockCapabilities Declared { get; init; } =
        BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard | BlockCapabilities.Resize;

    /// <summary>Number of changes (writes, zeroings, discards, resizes and flushes) so far.</summary>
    public int OperationCount => Files.OperationCount;

    /// <summary>All changes so far.</summary>
    public IReadOnlyList<CrashOperation> Log => Files.Log;

    /// <inheritdoc/>
    public override long Length
    {
        get
        {
            lock (Files.Sync)
            {
                return _content.Length;
            }
        }
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => Declared;

    internal SectorStore Initial => _initial;

    /// <summary>Which of <see cref="Files"/> it is.</summary>
    internal int Index { get; }

    /// <summary>The failure of a broken disk.</summary>
    public static BlockException IoError() =>
        new(BlockErrorKind.IoError, "the simulated disk failed") { Errno = Interop.Errno.EIO };

    /// <summary>The failure of a full file system.</summary>
    public static BlockException NoSpace() =>
        new(BlockErrorKind.NoSpace, "the simulated disk is full") { Errno = Interop.Errno.ENOSPC };

    /// <summary>The bytes as the running program sees them.</summary>
    public byte[] ToArray()
    {
        lock (Files.Sync)
        {
            var bytes = new byte[_content.Length];
            _content.Read(0, bytes);
            return bytes;
        }
    }

    /// <summary>Writes the bytes to a host file, with holes where there are zeroes.</summary>
    public void SaveTo(string path)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        lock (Files.Sync)
        {
            RandomAccess.SetLength(file, _content.Length);
            for (long at = 0; at < _content.Length; at += SectorStore.SectorSize)
            {
                ReadOnlySpan<byte> sector = _content.Sector(at / SectorStore.SectorSize);
                int count = (int)Math.Min(sector.Length, _content.Length - at);
                if (sector.ContainsAnyExcept((byte)0))
                {
                    RandomAccess.Write(file, sector[..count], at);
                }
            }
        }
    }

    /// <summary>
    /// A new file with what a crash after <paramref name="cut"/> changes may have left, all of it durable.
    /// </summary>
    public CrashDevice Recover(int cut, CrashPolicy policy, int seed = 0)
    {
        var replay = new CrashReplay(Files);
        replay.MoveTo(cut);
        return replay.Recover(policy, seed).Devices[Index];
    }

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await BeginAsync(TestOperation.Read, offset, buffer.Length).ConfigureAwait(false);
        lock (Files.Sync)
        {
            _content.Read(offset, buffer.Span);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        await BeginAsync(TestOperation.Write, offset, buffer.Length).ConfigureAwait(false);
        Change(TestOperation.Write, offset, buffer.Length, buffer.Span);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        await BeginAsync(TestOperation.Zero, offset, count).ConfigureAwait(false);
        Change(TestOperation.Zero, offset, count, []);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(
        long offset, long count, CancellationToken cancellationToken)
    {
        await BeginAsync(TestOperation.Discard, offset, count).ConfigureAwait(false);
        Change(TestOperation.Discard, offset, count, []);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        await BeginAsync(TestOperation.Flush, 0, 0).ConfigureAwait(false);
        lock (Files.Sync)
        {
            Files.Record(new CrashOperation(this, TestOperation.Flush, 0, 0, 0, [], _content.Length));
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if ((Declared & BlockCapabilities.Resize) == 0)
        {
            return false;
        }

        await BeginAsync(TestOperation.Resize, 0, newLength).ConfigureAwait(false);
        lock (Files.Sync)
        {
            long oldLength = _content.Length;
            if (newLength < oldLength)
            {
                // What is cut off reads as zeroes if the file grows again.
                long from = newLength / SectorStore.SectorSize;
                byte[][] cut = NewSectors(newLength, oldLength - newLength, []);
                _content.Length = newLength;
                Record(TestOperation.Resize, 0, newLength, from, cut);
            }
            else
            {
                _content.Length = newLength;
                Record(TestOperation.Resize, 0, newLength, 0, []);
            }
        }

        return true;
    }

    private async ValueTask BeginAsync(TestOperation operation, long offset, long count)
    {
        if (CompletesAsynchronously)
        {
            await Task.Yield();
        }

        if (Fail?.Invoke(OperationCount, new TestRequest(operation, offset, count, WriteFlags.None)) is { } failure)
        {
            throw failure;
        }
    }

    private void Change(TestOperation operation, long offset, long count, ReadOnlySpan<byte> bytes)
    {
        lock (Files.Sync)
        {
            Record(operation, offset, count, offset / SectorStore.SectorSize, NewSectors(offset, count, bytes));
        }
    }

    /// <summary>The sectors of a range with new bytes in them; zeroes when no bytes are given.</summary>
    private byte[][] NewSectors(long offset, long count, ReadOnlySpan<byte> bytes)
    {
        long first = offset / SectorStore.SectorSize;
        long last = (offset + count - 1) / SectorStore.SectorSize;
        var sectors = new byte[last - first + 1][];
        for (long index = first; index <= last; index++)
        {
            long start = index * SectorStore.SectorSize;
            if (bytes.IsEmpty && start >= offset && start + SectorStore.SectorSize <= offset + count)
            {
                sectors[index - first] = s_zeroSector;
                continue;
            }

            byte[] sector = _content.Sector(index).ToArray();
            int from = (int)Math.Max(offset - start, 0);
            int to = (int)Math.Min(offset + count - start, SectorStore.SectorSize);
            if (bytes.IsEmpty)
            {
                sector.AsSpan(from, to - from).Clear();
            }
            else
            {
                bytes.Slice((int)(start + from - offset), to - from).CopyTo(sector.AsSpan(from));
            }

            sectors[index - first] = sector;
        }

        return sectors;
    }

    private void Record(TestOperation operation, long offset, long count, long firstSector, byte[][] sectors)
    {
        for (int i = 0; i < sectors.Length; i++)
        {
            _content.Put(firstSector + i, sectors[i]);
        }

        Files.Record(new CrashOperation(this, operation, offset, count, firstSector, sectors, _content.Length));
    }
}
