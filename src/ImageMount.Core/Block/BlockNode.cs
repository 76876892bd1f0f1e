using System.Runtime.CompilerServices;
using ImageMount.Core.Memory;

namespace ImageMount.Core.Block;

/// <summary>
/// The user's side of the block layer: a device with a name, behind the checks and emulations that every driver needs
/// and none should write: ranges, alignment (bounce buffers, read-modify-write), splitting, FUA, zeroing, requests in
/// flight, and the node's name and offset on every error.
/// </summary>
/// <remarks>
/// May be used from any number of threads at once. A request that needs none of the emulations costs two interlocked
/// operations and allocates nothing.
/// </remarks>
public sealed class BlockNode
{
    private const int ZeroChunk = 1 << 20;
    private static readonly NativeBuffer Zeroes = new(ZeroChunk);

    private readonly BlockDevice _device;
    private readonly BlockLimits _limits;
    private readonly BlockCapabilities _capabilities;
    private readonly WriteFlags _everyWrite;
    private readonly bool _ignoreFlush;
    private readonly UnalignedWrites? _unaligned;
    private readonly InFlight _inFlight = new();
    private int _closed;

    /// <summary>Wraps a device.</summary>
    /// <param name="name">What messages call it: a file name or a URI without secrets.</param>
    /// <param name="driver">Driver name.</param>
    /// <param name="device">The device; the node closes it.</param>
    /// <param name="options">How the node behaves.</param>
    public BlockNode(string name, string driver, BlockDevice device, NodeOptions options = default)
    {
        Name = name;
        Driver = driver;
        _device = device;
        _limits = device.Limits;
        _capabilities = options.ReadOnly
            ? device.Capabilities & BlockCapabilities.Map
            : device.Capabilities;
        _everyWrite = options.WriteThrough ? WriteFlags.Fua : WriteFlags.None;
        _ignoreFlush = options.IgnoreFlush;
        if (_limits.RequestAlignment > 1)
        {
            _unaligned = new UnalignedWrites(_limits.RequestAlignment);
        }
    }

    /// <summary>What messages call this node.</summary>
    public string Name { get; }

    /// <summary>Name of the driver.</summary>
    public string Driver { get; }

    /// <summary>Size in bytes.</summary>
    public long Length => _device.Length;

    /// <summary>True when guest data may be written.</summary>
    public bool CanWrite => (_capabilities & BlockCapabilities.Write) != 0;

    /// <summary>What the node can do natively.</summary>
    public BlockCapabilities Capabilities => _capabilities;

    /// <summary>The device's own limits; the node itself accepts any request inside the disk.</summary>
    public BlockLimits Limits => _limits;

    /// <summary>The nodes below.</summary>
    public IReadOnlyList<BlockChild> Children => _device.Children;

    /// <summary>The device, for capability interfaces (<c>ISnapshotSource</c>, <c>ICheckable</c>) only; requests go through the node.</summary>
    public BlockDevice Device => _device;

    /// <summary>Fills the buffer with the bytes at <paramref name="offset"/>.</summary>
    public ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (buffer.IsEmpty)
        {
            return default;
        }

        CheckRange(offset, buffer.Length);
        int slot = _inFlight.Enter();
        ValueTask task;
        try
        {
            task = NeedsNoHelp(offset, buffer)
                ? _device.ReadAsync(offset, buffer, cancellationToken)
                : ReadWithHelpAsync(offset, buffer, cancellationToken);
        }
        catch (Exception e)
        {
            _inFlight.Exit(slot);
            Stamp(e, offset);
            throw;
        }

        if (task.IsCompletedSuccessfully)
        {
            _inFlight.Exit(slot);
            return default;
        }

        return FinishAsync(task, slot, offset);
    }

    /// <summary>Writes the buffer at <paramref name="offset"/>.</summary>
    public ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags = WriteFlags.None,
        CancellationToken cancellationToken = default)
    {
        CheckWritable();
        if (buffer.IsEmpty)
        {
            return default;
        }

        CheckRange(offset, buffer.Length);
        flags |= _everyWrite;
        int slot = _inFlight.Enter();
        ValueTask task;
        try
        {
            task = _unaligned is null && FitsTransfer(buffer.Length) && FuaIsNative(flags)
                ? _device.WriteAsync(offset, buffer, flags, cancellationToken)
                : WriteWithHelpAsync(offset, buffer, flags, cancellationToken);
        }
        catch (Exception e)
        {
            _inFlight.Exit(slot);
            Stamp(e, offset);
            throw;
        }

        if (task.IsCompletedSuccessfully)
        {
            _inFlight.Exit(slot);
            return default;
        }

        return FinishAsync(task, slot, offset);
    }

    /// <summary>Makes a range read as zeroes, natively where the device can, else by writing zeroes.</summary>
    public async ValueTask ZeroAsync(
        long offset, long count, ZeroFlags flags = ZeroFlags.None, CancellationToken cancellationToken = default)
    {
        CheckWritable();
        CheckRange(offset, count);
        if (_everyWrite != WriteFlags.None)
        {
            flags |= ZeroFlags.Fua;
        }

        int slot = _inFlight.Enter();
        long at = offset;
        long end = offset + count;
        try
        {
            while (at < end)
            {
                at += await ZeroStepAsync(at, end - at, flags, cancellationToken).ConfigureAwait(false);
            }

            if ((flags & ZeroFlags.Fua) != 0)
            {
                await FlushDeviceAsync(cancellationToken).ConfigureAwait(false);
            }
        }
        catch (Exception e)
        {
            Stamp(e, at);
            throw;
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    /// <summary>Says that a range is no longer needed. Advice: nothing happens where the device cannot.</summary>
    public async ValueTask DiscardAsync(long offset, long count, CancellationToken cancellationToken = default)
    {
        CheckWritable();
        CheckRange(offset, count);
        if ((_capabilities & BlockCapabilities.Discard) == 0)
        {
            return;
        }

        long align = _limits.RequestAlignment;
        long from = offset + align - 1 & -align;
        long end = offset + count == Length ? Length : offset + count & -align;
        int slot = _inFlight.Enter();
        try
        {
            while (from < end)
            {
                long step = _limits.MaxZero == 0 ? end - from : Math.Min(_limits.MaxZero, end - from);
                await _device.TryDiscardAsync(from, step, cancellationToken).ConfigureAwait(false);
                from += step;
            }
        }
        catch (Exception e)
        {
            Stamp(e, from);
            throw;
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    /// <summary>
    /// Takes the space for a range from the host, so that later writes to it cannot fail for want of room. False when the
    /// device cannot.
    /// </summary>
    public ValueTask<bool> TryAllocateAsync(long offset, long count, CancellationToken cancellationToken = default)
    {
        CheckWritable();
        CheckRange(offset, count);
        return AskAsync(device => device.TryAllocateAsync(offset, count, cancellationToken), offset);
    }

    /// <summary>Everything written before this call is durable when it completes.</summary>
    public async ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        int slot = _inFlight.Enter();
        try
        {
            await FlushDeviceAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            Stamp(e, null);
            throw;
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    /// <summary>State of the first bytes of a range, at most <paramref name="count"/>.</summary>
    public ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken = default)
    {
        CheckRange(offset, count);
        if (count == 0)
        {
            throw new ArgumentOutOfRangeException(nameof(count), "a range to map has at least one byte");
        }

        return (_device.Capabilities & BlockCapabilities.Map) == 0
            ? new(new BlockExtent(count, ExtentFlags.Data | ExtentFlags.Present))
            : MapTrackedAsync(offset, count, cancellationToken);
    }

    /// <summary>Changes the length; false when the device cannot. The caller sends no request to the part that goes away.</summary>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken = default)
    {
        CheckWritable();
        ArgumentOutOfRangeException.ThrowIfNegative(newLength);
        return AskAsync(device => device.TryResizeAsync(newLength, cancellationToken), newLength);
    }

    /// <summary>The host file with exactly this node's bytes, for passthrough. A read-only node gives one for reading only.</summary>
    public bool TryGetHostFile(out HostFileRegion region) => _device.TryGetHostFile(out region);

    /// <summary>What `info` shows of this node.</summary>
    public async ValueTask<Info.DeviceInfo> DescribeAsync(CancellationToken cancellationToken = default)
    {
        var info = new Info.DeviceInfo { Format = Driver, FileName = Name, VirtualSize = Length };
        await _device.DescribeAsync(info, cancellationToken).ConfigureAwait(false);
        return info;
    }

    /// <summary>Completes when no request that began before the call is in flight.</summary>
    public ValueTask DrainAsync() => _inFlight.DrainAsync();

    /// <summary>Waits for requests in flight, then closes the device. Once; later calls do nothing. Children stay open.</summary>
    public async ValueTask CloseAsync()
    {
        if (Interlocked.Exchange(ref _closed, 1) != 0)
        {
            return;
        }

        await _inFlight.DrainAsync().ConfigureAwait(false);
        try
        {
            await _device.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            Stamp(e, null);
            throw;
        }
    }

    /// <summary>A rare request that the device may decline.</summary>
    private async ValueTask<bool> AskAsync(Func<BlockDevice, ValueTask<bool>> request, long offset)
    {
        int slot = _inFlight.Enter();
        try
        {
            return await request(_device).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            Stamp(e, offset);
            throw;
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    private async ValueTask FinishAsync(ValueTask task, int slot, long offset)
    {
        try
        {
            await task.ConfigureAwait(false);
        }
        catch (Exception e)
        {
            Stamp(e, offset);
            throw;
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    private async ValueTask<BlockExtent> MapTrackedAsync(long offset, long count, CancellationToken cancellationToken)
    {
        int slot = _inFlight.Enter();
        try
        {
            BlockExtent extent = await _device.MapAsync(offset, count, cancellationToken).ConfigureAwait(false);
            if (extent.Length < 1 || extent.Length > count)
            {
                throw new InvalidOperationException($"{Driver} mapped {extent.Length} bytes of {count}");
            }

            return extent;
        }
        catch (Exception e)
        {
            Stamp(e, offset);
            throw;
        }
        finally
        {
            _inFlight.Exit(slot);
        }
    }

    private async ValueTask ReadWithHelpAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int align = _limits.RequestAlignment;
        int max = MaxStep();
        while (!buffer.IsEmpty)
        {
            int step = Math.Min(buffer.Length, max - (int)(offset & align - 1));
            Memory<byte> part = buffer[..step];
            if (IsAligned(offset, step) && IsAddressAligned(part))
            {
                await _device.ReadAsync(offset, part, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                long from = offset & -(long)align;
                long to = Math.Min(offset + step + align - 1 & -(long)align, Length);
                using BufferLease bounce = BufferPool.Shared.Rent((int)(to - from));
                await _device.ReadAsync(from, bounce.Memory, cancellationToken).ConfigureAwait(false);
                bounce.Memory.Slice((int)(offset - from), step).CopyTo(part);
            }

            offset += step;
            buffer = buffer[step..];
        }
    }

    private async ValueTask WriteWithHelpAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        bool emulateFua = !FuaIsNative(flags);
        WriteFlags passed = emulateFua ? WriteFlags.None : flags;
        int align = _limits.RequestAlignment;
        int max = MaxStep();
        while (!buffer.IsEmpty)
        {
            int step = Math.Min(buffer.Length, max - (int)(offset & align - 1));
            ReadOnlyMemory<byte> part = buffer[..step];
            if (_unaligned is null)
            {
                await _device.WriteAsync(offset, part, passed, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await WriteAlignedAsync(_unaligned, offset, part, passed, cancellationToken).ConfigureAwait(false);
            }

            offset += step;
            buffer = buffer[step..];
        }

        if (emulateFua)
        {
            await FlushDeviceAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Writes through blocks that the device cannot address in part. Read-modify-write of a block must not overtake, or
    /// be overtaken by, another write to the same block, or bytes that nobody meant to change would be put back.
    /// </summary>
    private async ValueTask WriteAlignedAsync(
        UnalignedWrites guard, long offset, ReadOnlyMemory<byte> part, WriteFlags flags, CancellationToken cancellationToken)
    {
        bool whole = IsAligned(offset, part.Length);
        UnalignedWrites.Ticket ticket = await guard.EnterAsync(offset, part.Length, !whole).ConfigureAwait(false);
        try
        {
            if (whole && IsAddressAligned(part))
            {
                await _device.WriteAsync(offset, part, flags, cancellationToken).ConfigureAwait(false);
                return;
            }

            long align = _limits.RequestAlignment;
            long from = offset & -align;
            long to = Math.Min(offset + part.Length + align - 1 & -align, Length);
            using BufferLease bounce = BufferPool.Shared.Rent((int)(to - from));
            if (!whole)
            {
                await FillEdgesAsync(from, to, offset, part.Length, bounce.Memory, cancellationToken).ConfigureAwait(false);
            }

            part.CopyTo(bounce.Memory[(int)(offset - from)..]);
            await _device.WriteAsync(from, bounce.Memory, flags, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            guard.Exit(ticket);
        }
    }

    private async ValueTask FillEdgesAsync(
        long from, long to, long offset, int count, Memory<byte> block, CancellationToken cancellationToken)
    {
        long align = _limits.RequestAlignment;
        int headEnd = (int)(Math.Min(from + align, to) - from);
        if (offset > from)
        {
            await _device.ReadAsync(from, block[..headEnd], cancellationToken).ConfigureAwait(false);
        }

        long tail = to - 1 & -align;
        bool tailIsHead = tail == from && offset > from;
        if (offset + count < to && !tailIsHead)
        {
            await _device.ReadAsync(tail, block[(int)(tail - from)..], cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask<long> ZeroStepAsync(long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        long align = _limits.RequestAlignment;
        long end = offset + count;
        if ((_capabilities & BlockCapabilities.Zero) != 0 && (offset & align - 1) == 0)
        {
            long alignedEnd = end == Length ? end : end & -align;
            long step = alignedEnd - offset;
            if (_limits.MaxZero != 0)
            {
                step = Math.Min(step, _limits.MaxZero);
            }

            if (step > 0 && await ZeroBlocksAsync(offset, step, flags, cancellationToken).ConfigureAwait(false))
            {
                return step;
            }
        }

        // Up to the next boundary, so that the rest can be zeroed natively.
        long limit = (offset & align - 1) == 0 ? ZeroChunk : align - (offset & align - 1);
        int written = (int)Math.Min(Math.Min(count, limit), ZeroChunk);
        await WriteWithHelpAsync(offset, Zeroes.Memory[..written], WriteFlags.None, cancellationToken).ConfigureAwait(false);
        return written;
    }

    /// <summary>
    /// Zeroes whole blocks. A read-modify-write of one of them must not be under way: it would put the old bytes back.
    /// </summary>
    private async ValueTask<bool> ZeroBlocksAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        flags &= ~ZeroFlags.Fua;
        if (_unaligned is null)
        {
            return await _device.TryZeroAsync(offset, count, flags, cancellationToken).ConfigureAwait(false);
        }

        UnalignedWrites.Ticket ticket = await _unaligned.EnterAsync(offset, count, modifies: false)
            .ConfigureAwait(false);
        try
        {
            return await _device.TryZeroAsync(offset, count, flags, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _unaligned.Exit(ticket);
        }
    }

    private ValueTask FlushDeviceAsync(CancellationToken cancellationToken) =>
        _ignoreFlush ? default : _device.FlushAsync(cancellationToken);

    private int MaxStep() => _limits.MaxTransfer == 0 ? 64 << 20 : _limits.MaxTransfer;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool NeedsNoHelp(long offset, Memory<byte> buffer) =>
        FitsTransfer(buffer.Length)
        && (_unaligned is null || (IsAligned(offset, buffer.Length) && IsAddressAligned(buffer)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool FitsTransfer(int count) => _limits.MaxTransfer == 0 || count <= _limits.MaxTransfer;

    private bool FuaIsNative(WriteFlags flags) =>
        (flags & WriteFlags.Fua) == 0 || (_capabilities & BlockCapabilities.Fua) != 0;

    private bool IsAligned(long offset, int count)
    {
        long mask = _limits.RequestAlignment - 1;
        return (offset & mask) == 0 && ((count & mask) == 0 || offset + count == Length);
    }

    private bool IsAddressAligned(ReadOnlyMemory<byte> buffer) =>
        _limits.MemoryAlignment <= 1 || BufferAddress.IsAligned(buffer, _limits.MemoryAlignment);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void CheckRange(long offset, long count)
    {
        // Unsigned and subtracting, so that no sum can overflow.
        long length = _device.Length;
        if ((ulong)offset > (ulong)length || (ulong)count > (ulong)(length - offset))
        {
            ThrowOutOfRange(offset, count, length);
        }
    }

    private void ThrowOutOfRange(long offset, long count, long length)
    {
        var e = new BlockException(BlockErrorKind.OutOfRange, $"a request of {count} bytes leaves the disk")
        {
            Offset = offset,
            Expected = $"0…0x{length:x}",
        };
        e.Stamp(Name, offset);
        throw e;
    }

    private void CheckWritable()
    {
        if ((_capabilities & BlockCapabilities.Write) == 0)
        {
            var e = new BlockException(BlockErrorKind.ReadOnly, "the node is open for reading only");
            e.Stamp(Name, null);
            throw e;
        }
    }

    private void Stamp(Exception exception, long? offset)
    {
        if (exception is BlockException block)
        {
            block.Stamp(Name, offset);
        }
    }
}

/// <summary>How a node treats what is asked of it; follows from the cache mode.</summary>
public readonly record struct NodeOptions
{
    /// <summary>Refuse writes even if the device could.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Every write is durable when it completes.</summary>
    public bool WriteThrough { get; init; }

    /// <summary>Flushes are not passed on (cache=unsafe).</summary>
    public bool IgnoreFlush { get; init; }
}
