using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// The one engine that moves payload for every format with tables: asks the map for runs and reads, decodes, or falls
/// through to the parent; asks it for room and writes, with the edges of new units copied from what was there before.
/// Formats derive once, to add what is theirs (snapshots, check, describing, closing).
/// </summary>
public abstract class MappedDevice : BlockDevice
{
    private readonly InFlight _users = new();
    private readonly UnitReader _units;

    /// <summary>Makes the engine.</summary>
    /// <param name="decoded">Cache for compressed units; null for the one of the process.</param>
    protected MappedDevice(DecodedUnitCache? decoded = null)
    {
        Decoded = decoded ?? DecodedUnitCache.Shared;
        _units = new UnitReader(Decoded, _users, () => Map);
    }

    /// <summary>
    /// Decoded units. A map that frees or stores compressed units says so with <see cref="DecodedUnitCache.Forget"/>.
    /// </summary>
    protected DecodedUnitCache Decoded { get; }

    /// <summary>
    /// How stored payload is encrypted; null where it is not. A device that sets it asks for requests that are aligned
    /// to <see cref="PayloadCipher.Sector"/>, and its map answers with runs and leases that are.
    /// </summary>
    protected PayloadCipher? Cipher { get; init; }

    /// <summary>The tables.</summary>
    protected abstract IExtentMap Map { get; }

    /// <summary>The tables when they may be changed, else null.</summary>
    protected virtual IWritableExtentMap? WritableMap => null;

    /// <inheritdoc/>
    public override long Length => Map.Length;

    /// <summary>
    /// Completes when every read and write that began before the call has ended, so that nobody uses a mapping that
    /// was replaced before it. Not to be awaited inside a lookup or a prepare.
    /// </summary>
    public ValueTask QuiesceAsync() => _users.DrainAsync();

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int slot = _users.Enter();
        ValueTask task;
        try
        {
            task = ReadRunsAsync(offset, buffer, cancellationToken);
        }
        catch
        {
            _users.Exit(slot);
            throw;
        }

        if (!task.IsCompletedSuccessfully)
        {
            return ExitAfterAsync(task, slot);
        }

        _users.Exit(slot);
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        int slot = _users.Enter();
        ValueTask task;
        try
        {
            task = WriteRunsAsync(RequireWritable(), offset, buffer, cancellationToken);
        }
        catch
        {
            _users.Exit(slot);
            throw;
        }

        if (!task.IsCompletedSuccessfully)
        {
            return ExitAfterAsync(task, slot);
        }

        _users.Exit(slot);
        return default;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        IWritableExtentMap map = RequireWritable();
        bool mayUnmap = (flags & ZeroFlags.MayUnmap) != 0;
        int slot = _users.Enter();
        try
        {
            while (count > 0)
            {
                long done = await map.ZeroUnitsAsync(offset, count, mayUnmap, cancellationToken).ConfigureAwait(false);
                if (done == 0)
                {
                    done = await ZeroEdgeAsync(map, offset, count, cancellationToken).ConfigureAwait(false);
                }

                offset += done;
                count -= done;
            }

            return true;
        }
        finally
        {
            _users.Exit(slot);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        int slot = _users.Enter();
        try
        {
            await RequireWritable().DiscardUnitsAsync(offset, count, cancellationToken).ConfigureAwait(false);
            return true;
        }
        finally
        {
            _users.Exit(slot);
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) =>
        WritableMap?.FlushAsync(cancellationToken) ?? default;

    /// <inheritdoc/>
    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) =>
        WritableMap?.TryResizeAsync(newLength, cancellationToken) ?? new(false);

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        int slot = _users.Enter();
        try
        {
            MappedRun run = await Map.LookupAsync(offset, count, cancellationToken).ConfigureAwait(false);
            switch (run.Kind)
            {
                case RunKind.Data or RunKind.Zero when run.IsAllocated && Cipher is not null:
                    // What is at the place in the file is not what the disk holds.
                    return new BlockExtent(
                        run.Length, ExtentFlags.Present | (run.Kind == RunKind.Data ? ExtentFlags.Data : ExtentFlags.Zero));
                case RunKind.Data:
                    return new BlockExtent(
                        run.Length, ExtentFlags.Data | ExtentFlags.Present | ExtentFlags.HostOffset, 0,
                        run.HostOffset, run.Source);
                case RunKind.Compressed:
                    return new BlockExtent(
                        run.Length, ExtentFlags.Data | ExtentFlags.Present | ExtentFlags.Compressed);
                case RunKind.Zero when run.IsAllocated:
                    return new BlockExtent(
                        run.Length, ExtentFlags.Zero | ExtentFlags.Present | ExtentFlags.HostOffset, 0,
                        run.HostOffset, run.Source);
                case RunKind.Zero:
                    return new BlockExtent(run.Length, ExtentFlags.Zero | ExtentFlags.Present);
                default:
                    return await MapParentAsync(offset, run.Length, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _users.Exit(slot);
        }
    }

    /// <summary>
    /// Ends read-ahead and gives decoded units back. A format that overrides this calls it first, while its tables and
    /// its children can still be used.
    /// </summary>
    public override async ValueTask CloseAsync()
    {
        _units.Stop();
        await _users.DrainAsync().ConfigureAwait(false);
        await _users.DrainAsync().ConfigureAwait(false); // What the planner began while the first was under way.
        _units.Drop();
    }

    private IWritableExtentMap RequireWritable() =>
        WritableMap ?? throw new BlockException(BlockErrorKind.ReadOnly, "the image is open for reading only");

    private async ValueTask ExitAfterAsync(ValueTask task, int slot)
    {
        try
        {
            await task.ConfigureAwait(false);
        }
        finally
        {
            _users.Exit(slot);
        }
    }

    /// <summary>The ordinary case, one run of stored bytes that is known, is passed straight on.</summary>
    private ValueTask ReadRunsAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (buffer.IsEmpty)
        {
            return default;
        }

        ValueTask<MappedRun> lookup = Map.LookupAsync(offset, buffer.Length, cancellationToken);
        if (lookup.IsCompletedSuccessfully)
        {
            MappedRun run = lookup.Result;
            if (run.Kind == RunKind.Data && run.Length >= buffer.Length)
            {
                return ReadDataAsync(run, offset, buffer, cancellationToken);
            }

            lookup = new ValueTask<MappedRun>(run);
        }

        return ReadRunsAsync(lookup, offset, buffer, cancellationToken);
    }

    private async ValueTask ReadRunsAsync(
        ValueTask<MappedRun> lookup, long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        long end = offset + buffer.Length;
        while (true)
        {
            MappedRun run = await lookup.ConfigureAwait(false);
            int count = (int)Math.Min(run.Length, buffer.Length);
            Memory<byte> part = buffer[..count];
            switch (run.Kind)
            {
                case RunKind.Data:
                    await ReadDataAsync(run, offset, part, cancellationToken).ConfigureAwait(false);
                    break;
                case RunKind.Zero:
                    part.Span.Clear();
                    break;
                case RunKind.Compressed:
                    await _units.ReadAsync(run.Unit, offset, part, end, cancellationToken).ConfigureAwait(false);
                    break;
                default:
                    await ReadParentAsync(offset, part, cancellationToken).ConfigureAwait(false);
                    break;
            }

            offset += count;
            buffer = buffer[count..];
            if (buffer.IsEmpty)
            {
                return;
            }

            lookup = Map.LookupAsync(offset, buffer.Length, cancellationToken);
        }
    }

    private ValueTask ReadDataAsync(in MappedRun run, long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        ValueTask read = run.Source!.ReadAsync(run.HostOffset, buffer, cancellationToken);
        if (Cipher is not { } cipher)
        {
            return read;
        }

        if (!read.IsCompletedSuccessfully)
        {
            return DecryptAfterAsync(read, cipher, offset, run.HostOffset, buffer);
        }

        cipher.Decrypt(offset, run.HostOffset, buffer.Span);
        return default;
    }

    private static async ValueTask DecryptAfterAsync(
        ValueTask read, PayloadCipher cipher, long offset, long hostOffset, Memory<byte> buffer)
    {
        await read.ConfigureAwait(false);
        cipher.Decrypt(offset, hostOffset, buffer.Span);
    }

    private async ValueTask ReadParentAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        BlockNode? parent = Map.Backing;
        long available = parent is null ? 0 : Math.Clamp(parent.Length - offset, 0, buffer.Length);
        if (available > 0)
        {
            await parent!.ReadAsync(offset, buffer[..(int)available], cancellationToken).ConfigureAwait(false);
        }

        buffer.Span[(int)available..].Clear();
    }

    private async ValueTask<BlockExtent> MapParentAsync(long offset, long count, CancellationToken cancellationToken)
    {
        BlockNode? parent = Map.Backing;
        long available = parent is null ? 0 : Math.Clamp(parent.Length - offset, 0, count);
        if (available == 0)
        {
            return new BlockExtent(count, ExtentFlags.Zero); // no layer defines it, also after the end of a short parent
        }

        BlockExtent extent = await parent!.MapAsync(offset, available, cancellationToken).ConfigureAwait(false);
        return extent with { Depth = extent.Depth + 1 };
    }

    /// <summary>The ordinary case, an overwrite in one known place, is passed straight on.</summary>
    private ValueTask WriteRunsAsync(
        IWritableExtentMap map, long offset, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        ValueTask<WriteTarget> prepare = map.PrepareWriteAsync(offset, buffer.Length, cancellationToken);
        if (prepare.IsCompletedSuccessfully)
        {
            WriteTarget target = prepare.Result;
            if (target.Lease is null && target.Length >= buffer.Length)
            {
                return WriteDataAsync(target.Node, target.HostOffset, offset, buffer, cancellationToken);
            }

            prepare = new ValueTask<WriteTarget>(target);
        }

        return WriteRunsAsync(prepare, map, offset, buffer, cancellationToken);
    }

    private async ValueTask WriteRunsAsync(
        ValueTask<WriteTarget> prepare, IWritableExtentMap map, long offset, ReadOnlyMemory<byte> buffer,
        CancellationToken cancellationToken)
    {
        while (true)
        {
            WriteTarget target = await prepare.ConfigureAwait(false);
            int count = (int)Math.Min(target.Length, buffer.Length);
            if (target.Lease is null)
            {
                await WriteDataAsync(target.Node, target.HostOffset, offset, buffer[..count], cancellationToken)
                    .ConfigureAwait(false);
            }
            else
            {
                await WriteLeaseAsync(target, offset, buffer[..count], cancellationToken).ConfigureAwait(false);
            }

            offset += count;
            buffer = buffer[count..];
            if (buffer.IsEmpty)
            {
                return;
            }

            prepare = map.PrepareWriteAsync(offset, buffer.Length, cancellationToken);
        }
    }

    private ValueTask WriteDataAsync(
        BlockNode node, long hostOffset, long offset, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken) =>
        Cipher is null
            ? node.WriteAsync(hostOffset, buffer, WriteFlags.None, cancellationToken)
            : WriteEncryptedAsync(Cipher, node, hostOffset, offset, buffer, cancellationToken);

    private static async ValueTask WriteEncryptedAsync(
        PayloadCipher cipher, BlockNode node, long hostOffset, long offset, ReadOnlyMemory<byte> buffer,
        CancellationToken cancellationToken)
    {
        const int MaxStep = 1 << 20;
        while (!buffer.IsEmpty)
        {
            int count = Math.Min(buffer.Length, MaxStep);
            using BufferLease bounce = BufferPool.Shared.Rent(count);
            buffer[..count].CopyTo(bounce.Memory);
            cipher.Encrypt(offset, hostOffset, bounce.Span);
            await node.WriteAsync(hostOffset, bounce.Memory, WriteFlags.None, cancellationToken).ConfigureAwait(false);
            offset += count;
            hostOffset += count;
            buffer = buffer[count..];
        }
    }

    /// <summary>Fills reserved space: old bytes before and after, new bytes between; then publishes it.</summary>
    private async ValueTask WriteLeaseAsync(
        WriteTarget target, long offset, ReadOnlyMemory<byte> payload, CancellationToken cancellationToken)
    {
        WriteLease lease = target.Lease!;
        try
        {
            long end = offset + payload.Length;
            await WriteEdgeAsync(target.Node, lease, lease.GuestStart, offset, cancellationToken).ConfigureAwait(false);
            await WriteDataAsync(
                target.Node, lease.HostStart + (offset - lease.GuestStart), offset, payload, cancellationToken)
                .ConfigureAwait(false);
            await WriteEdgeAsync(target.Node, lease, end, lease.GuestEnd, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            lease.Rollback();
            throw;
        }

        await lease.CommitAsync(cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask WriteEdgeAsync(
        BlockNode node, WriteLease lease, long from, long to, CancellationToken cancellationToken)
    {
        const int MaxStep = 2 << 20;

        // Space that reads as zeroes does not hold the zeroes of an encrypted disk.
        bool skipsZeroes = lease.HostReadsZero && Cipher is null;
        while (from < to)
        {
            if (skipsZeroes)
            {
                // Known to be zero on both sides: not even looked at.
                BlockExtent extent = from >= Length
                    ? new BlockExtent(to - from, ExtentFlags.Zero)
                    : await MapAsync(from, Math.Min(to, Length) - from, cancellationToken).ConfigureAwait(false);
                if (extent.IsZero)
                {
                    from += extent.Length;
                    continue;
                }
            }

            int step = (int)Math.Min(to - from, MaxStep);
            int inside = (int)Math.Clamp(Length - from, 0, step);
            using BufferLease edge = BufferPool.Shared.Rent(step);
            await ReadRunsAsync(from, edge.Memory[..inside], cancellationToken).ConfigureAwait(false);
            edge.Span[inside..].Clear();
            if (!skipsZeroes || edge.Span.ContainsAnyExcept((byte)0))
            {
                await WriteDataAsync(
                    node, lease.HostStart + (from - lease.GuestStart), from, edge.Memory, cancellationToken)
                    .ConfigureAwait(false);
            }

            from += step;
        }
    }

    /// <summary>Zeroes what no whole unit covers, by writing; not where zeroes are already.</summary>
    private async ValueTask<long> ZeroEdgeAsync(
        IWritableExtentMap map, long offset, long count, CancellationToken cancellationToken)
    {
        const int MaxStep = 64 << 10;
        BlockExtent extent = await MapAsync(offset, count, cancellationToken).ConfigureAwait(false);
        long length = extent.Length;
        if (Cipher is not null && length < count)
        {
            // A parent may end, or change from data to zeroes, within a sector; it is encrypted as one.
            length &= -PayloadCipher.Sector;
        }

        if (extent.IsZero && length > 0)
        {
            return length;
        }

        length = length > 0 ? length : Math.Min(PayloadCipher.Sector, count);

        // Up to a boundary of units and no further, so that the rest of the range can be zeroed by tables. The optimal
        // transfer is the unit or a multiple of it; larger units are reached in a few steps.
        long boundary = Limits.OptimalTransfer is > 0 and < MaxStep ? Limits.OptimalTransfer : MaxStep;
        int step = (int)Math.Min(length, boundary - (offset % boundary));
        using BufferLease zeroes = BufferPool.Shared.Rent(step);
        zeroes.Span.Clear();
        await WriteRunsAsync(map, offset, zeroes.Memory, cancellationToken).ConfigureAwait(false);
        return step;
    }
}
