using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Core.Secrets;

namespace ImageMount.Formats.Luks;

/// <summary>
/// An unlocked LUKS disk. Every sector has one place, so there is nothing to look up: a read goes straight into the
/// caller's buffer and is decrypted there; a write is encrypted in a buffer of the pool on its way down.
/// </summary>
public sealed class LuksDevice : BlockDevice, ICheckable, IAmendable
{
    private const int MaxWrite = 1 << 20;

    private readonly BlockNode _data;
    private readonly LuksArea _area;
    private readonly LuksKeys? _keys;
    private readonly LuksPart[] _parts;
    private readonly bool _writable;
    private readonly int _sectorSize;
    private readonly SemaphoreSlim _slotGate = new(1, 1);
    private LuksHeader _header;
    private long _length;

    internal LuksDevice(
        BlockNode data, BlockNode? detached, LuksArea area, LuksHeader header, LuksKeys? keys, bool writable)
    {
        _data = data;
        _area = area;
        _header = header;
        _keys = keys;
        _writable = writable && keys is not null;
        _sectorSize = header.Segments.Max(segment => segment.SectorSize);
        _length = LengthOf(header, data.Length);
        _parts = keys is null ? [] : LuksPart.MakeAll(header, keys);
        Children = detached is null
            ? [new BlockChild("file", data)]
            : [new BlockChild("file", data), new BlockChild("header", detached)];
    }

    /// <inheritdoc/>
    public override long Length => Volatile.Read(ref _length);

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => !_writable ? BlockCapabilities.None
        : IsResizable ? BlockCapabilities.Write | BlockCapabilities.Resize : BlockCapabilities.Write;

    /// <inheritdoc/>
    public override BlockLimits Limits =>
        BlockLimits.Default with { RequestAlignment = _sectorSize, OptimalTransfer = _data.Limits.OptimalTransfer };

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public Type AmendOptionsType => typeof(LuksAmendOptions);

    /// <summary>The header as it is now.</summary>
    public LuksHeader Header => Volatile.Read(ref _header);

    private bool IsResizable =>
        _header.Segments[^1].Size is null && (_data.Capabilities & BlockCapabilities.Resize) != 0;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_parts.Length != 1)
        {
            return ReadPartsAsync(offset, buffer, cancellationToken);
        }

        LuksPart part = _parts[0];
        ValueTask read = _data.ReadAsync(part.HostOffset(offset), buffer, cancellationToken);
        if (!read.IsCompletedSuccessfully)
        {
            return DecryptAfterAsync(read, part, offset, buffer);
        }

        part.Decrypt(offset, buffer.Span);
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        LuksPart part = _parts[0];
        if (_parts.Length > 1 || buffer.Length > MaxWrite)
        {
            return WritePartsAsync(offset, buffer, cancellationToken);
        }

        BufferLease lease = Encrypt(part, offset, buffer.Span);
        ValueTask write;
        try
        {
            write = _data.WriteAsync(part.HostOffset(offset), lease.Memory, WriteFlags.None, cancellationToken);
        }
        catch
        {
            lease.Dispose();
            throw;
        }

        if (!write.IsCompletedSuccessfully)
        {
            return DisposeAfterAsync(write, lease);
        }

        lease.Dispose();
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) => _data.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    /// <remarks>New space has to be written: what is not there yet would decrypt to noise, not to zeroes.</remarks>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (!_writable || !IsResizable)
        {
            return false;
        }

        LuksPart last = _parts[^1];
        if (newLength % _sectorSize != 0 || newLength < last.Start || newLength > long.MaxValue - last.Segment.Offset)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "an encrypted disk consists of whole sectors")
            {
                Found = $"{newLength} bytes",
                Expected = $"a multiple of {_sectorSize}",
            };
        }

        long old = Length;
        if (newLength < old)
        {
            Volatile.Write(ref _length, newLength);
        }

        if (!await _data.TryResizeAsync(last.HostOffset(newLength), cancellationToken).ConfigureAwait(false))
        {
            Volatile.Write(ref _length, old);
            return false;
        }

        using BufferLease zeroes = BufferPool.Shared.Rent(MaxWrite);
        for (long at = old; at < newLength;)
        {
            int count = (int)Math.Min(MaxWrite, newLength - at);
            zeroes.Span.Clear();
            last.Encrypt(at, zeroes.Span[..count]);
            await _data.WriteAsync(last.HostOffset(at), zeroes.Memory[..count], WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
            at += count;
        }

        Volatile.Write(ref _length, newLength);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        DeviceInfo below = await _data.DescribeAsync(cancellationToken).ConfigureAwait(false);
        info.ActualSize = below.ActualSize;
        info.Encrypted = true;
        info.DirtyFlag = false;
        info.FormatSpecific.AddRange(LuksDescribe.Facts(Header));
    }

    /// <inheritdoc/>
    public ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken) =>
        LuksCheck.RunAsync(_area, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask AmendAsync(
        object options, SecretStore secrets, bool force, CancellationToken cancellationToken)
    {
        await _slotGate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            LuksKeys keys = _keys ?? throw new InvalidOperationException("a locked image is not amended");
            var slots = new LuksKeySlots(_area, keys[Header.Segments[0].Digest]);
            await slots.AmendAsync((LuksAmendOptions)options, secrets, force, cancellationToken).ConfigureAwait(false);
            Volatile.Write(ref _header, await LuksHeader.ReadAsync(_area, cancellationToken).ConfigureAwait(false));
        }
        finally
        {
            _slotGate.Release();
        }
    }

    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        foreach (LuksPart part in _parts)
        {
            part.Dispose();
        }

        _keys?.Dispose();
        return default;
    }

    private static long LengthOf(LuksHeader header, long dataLength)
    {
        long length = 0;
        foreach (LuksSegment segment in header.Segments)
        {
            long end = segment.Offset + (segment.Size ?? 0);
            if (segment.Offset > dataLength || end > dataLength)
            {
                throw BlockException.Invalid(
                    "the file ends before the encrypted data does", null, $"0x{dataLength:x} bytes", $"0x{end:x} bytes");
            }

            length += segment.Size ?? (dataLength - segment.Offset) / segment.SectorSize * segment.SectorSize;
        }

        return length;
    }

    private static async ValueTask DecryptAfterAsync(ValueTask read, LuksPart part, long offset, Memory<byte> buffer)
    {
        await read.ConfigureAwait(false);
        part.Decrypt(offset, buffer.Span);
    }

    private static async ValueTask DisposeAfterAsync(ValueTask write, BufferLease lease)
    {
        using (lease)
        {
            await write.ConfigureAwait(false);
        }
    }

    private static BufferLease Encrypt(LuksPart part, long offset, ReadOnlySpan<byte> plain)
    {
        BufferLease lease = BufferPool.Shared.Rent(plain.Length);
        plain.CopyTo(lease.Span);
        part.Encrypt(offset, lease.Span);
        return lease;
    }

    private async ValueTask ReadPartsAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            LuksPart part = Find(offset, out long left);
            Memory<byte> piece = buffer[..(int)Math.Min(buffer.Length, left)];
            await _data.ReadAsync(part.HostOffset(offset), piece, cancellationToken).ConfigureAwait(false);
            part.Decrypt(offset, piece.Span);
            offset += piece.Length;
            buffer = buffer[piece.Length..];
        }
    }

    private async ValueTask WritePartsAsync(
        long offset, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            LuksPart part = Find(offset, out long left);
            ReadOnlyMemory<byte> piece = buffer[..(int)Math.Min(Math.Min(buffer.Length, MaxWrite), left)];
            using BufferLease lease = Encrypt(part, offset, piece.Span);
            await _data.WriteAsync(part.HostOffset(offset), lease.Memory, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
            offset += piece.Length;
            buffer = buffer[piece.Length..];
        }
    }

    private LuksPart Find(long offset, out long left)
    {
        if (_parts.Length == 0)
        {
            throw new BlockException(BlockErrorKind.PermissionDenied, "the image is encrypted and no passphrase is given")
            {
                Hint = "Give it with --passphrase-file FILE.",
            };
        }

        int index = _parts.Length - 1;
        while (_parts[index].Start > offset)
        {
            index--;
        }

        left = index + 1 < _parts.Length ? _parts[index + 1].Start - offset : long.MaxValue;
        return _parts[index];
    }
}
