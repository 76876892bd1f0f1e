using System.Collections.Concurrent;

namespace ImageMount.TestSupport;

/// <summary>What a test device was asked to do.</summary>
public enum TestOperation
{
    /// <summary>ReadAsync.</summary>
    Read,

    /// <summary>WriteAsync.</summary>
    Write,

    /// <summary>TryZeroAsync.</summary>
    Zero,

    /// <summary>TryDiscardAsync.</summary>
    Discard,

    /// <summary>FlushAsync.</summary>
    Flush,

    /// <summary>TryResizeAsync.</summary>
    Resize,

    /// <summary>CloseAsync.</summary>
    Close,
}

/// <summary>One request that reached a test device.</summary>
public readonly record struct TestRequest(TestOperation Operation, long Offset, long Count, WriteFlags Flags);

/// <summary>
/// A disk in a byte array. It checks what <see cref="BlockNode"/> promises to a device (range, alignment, size, buffer
/// address, capability) and fails the test when the promise is broken; it keeps a log; it can complete asynchronously,
/// wait at a gate, or fail.
/// </summary>
public sealed class MemoryDevice : BlockDevice
{
    private readonly ConcurrentQueue<TestRequest> _log = new();

    /// <summary>Held while bytes change: a resize copies them, and a write in the middle of that must not be lost.</summary>
    private readonly Lock _changes = new();
    private byte[] _content;
    private int _closes;

    /// <summary>A disk with this content; the array is used, not copied.</summary>
    public MemoryDevice(byte[] content) => _content = content;

    /// <summary>A disk of zeroes.</summary>
    public MemoryDevice(int length)
        : this(new byte[length])
    {
    }

    /// <summary>The bytes.</summary>
    public byte[] Content => _content;

    /// <summary>Capabilities to declare and to implement.</summary>
    public BlockCapabilities Declared { get; init; } = BlockCapabilities.Write | BlockCapabilities.Resize;

    /// <summary>Limits to declare and to insist on.</summary>
    public BlockLimits DeclaredLimits { get; init; } = BlockLimits.Default;

    /// <summary>True: every request first leaves the caller's thread.</summary>
    public bool CompletesAsynchronously { get; set; }

    /// <summary>Called before a request touches anything; may wait (a gate) or throw (a failure).</summary>
    public Func<TestRequest, ValueTask>? Before { get; set; }

    /// <summary>Every request so far.</summary>
    public IReadOnlyCollection<TestRequest> Log => _log;

    /// <summary>How often it was closed.</summary>
    public int Closes => _closes;

    /// <inheritdoc/>
    public override long Length => _content.Length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => Declared;

    /// <inheritdoc/>
    public override BlockLimits Limits => DeclaredLimits;

    /// <summary>How many requests of a kind arrived.</summary>
    public int Count(TestOperation operation) => _log.Count(request => request.Operation == operation);

    /// <summary>Forgets the log.</summary>
    public void ClearLog() => _log.Clear();

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        CheckShape(offset, buffer.Length, buffer);
        var request = new TestRequest(TestOperation.Read, offset, buffer.Length, WriteFlags.None);
        if (IsImmediate(request))
        {
            _content.AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span);
            return default;
        }

        return LaterAsync(request, () => _content.AsSpan((int)offset, buffer.Length).CopyTo(buffer.Span));
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        Promise((Declared & BlockCapabilities.Write) != 0, "a write to a device that cannot write");
        Promise((flags & WriteFlags.Fua) == 0 || (Declared & BlockCapabilities.Fua) != 0, "FUA to a device without it");
        CheckShape(offset, buffer.Length, buffer);
        var request = new TestRequest(TestOperation.Write, offset, buffer.Length, flags);
        if (IsImmediate(request))
        {
            Store(offset, buffer.Span);
            return default;
        }

        return LaterAsync(request, () => Store(offset, buffer.Span));
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        Promise((Declared & BlockCapabilities.Zero) != 0, "zeroing on a device that cannot");
        CheckSpan(offset, count);
        await LaterAsync(
            new TestRequest(TestOperation.Zero, offset, count, WriteFlags.None),
            () => Clear(offset, count));
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(
        long offset, long count, CancellationToken cancellationToken)
    {
        Promise((Declared & BlockCapabilities.Discard) != 0, "a discard on a device that cannot");
        CheckSpan(offset, count);
        await LaterAsync(
            new TestRequest(TestOperation.Discard, offset, count, WriteFlags.None),
            () => Clear(offset, count));
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) =>
        LaterAsync(new TestRequest(TestOperation.Flush, 0, 0, WriteFlags.None), () => { });

    /// <inheritdoc/>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if ((Declared & BlockCapabilities.Resize) == 0)
        {
            return false;
        }

        await LaterAsync(
            new TestRequest(TestOperation.Resize, 0, newLength, WriteFlags.None),
            () => Resize(checked((int)newLength)));
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        Promise((Declared & BlockCapabilities.Map) != 0, "a map of a device that cannot");
        bool isZero = _content[offset] == 0;
        int same = isZero
            ? _content.AsSpan((int)offset, (int)count).IndexOfAnyExcept((byte)0)
            : _content.AsSpan((int)offset, (int)count).IndexOf((byte)0);
        return new(new BlockExtent(
            same < 0 ? count : same, (isZero ? ExtentFlags.Zero : ExtentFlags.Data) | ExtentFlags.Present));
    }


    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        Promise(Interlocked.Increment(ref _closes) == 1, "a device is closed twice");
        return LaterAsync(new TestRequest(TestOperation.Close, 0, 0, WriteFlags.None), () => { });
    }

    private static void Promise(bool kept, string broken)
    {
        if (!kept)
        {
            throw new InvalidOperationException($"the node broke its promise: {broken}");
        }
    }

    private void Store(long offset, ReadOnlySpan<byte> bytes)
    {
        lock (_changes)
        {
            bytes.CopyTo(_content.AsSpan((int)offset));
        }
    }

    private void Clear(long offset, long count)
    {
        lock (_changes)
        {
            _content.AsSpan((int)offset, (int)count).Clear();
        }
    }

    private void Resize(int newLength)
    {
        lock (_changes)
        {
            Array.Resize(ref _content, newLength);
        }
    }

    private bool IsImmediate(TestRequest request)
    {
        if (CompletesAsynchronously || Before is not null)
        {
            return false;
        }

        _log.Enqueue(request);
        return true;
    }

    private async ValueTask LaterAsync(TestRequest request, Action action)
    {
        _log.Enqueue(request);
        if (CompletesAsynchronously)
        {
            await Task.Yield();
        }

        if (Before is not null)
        {
            await Before(request);
        }

        action();
    }

    private void CheckShape(long offset, int count, ReadOnlyMemory<byte> buffer)
    {
        Promise(_closes == 0, "a request after close");
        CheckSpan(offset, count);
        Promise(DeclaredLimits.MaxTransfer == 0 || count <= DeclaredLimits.MaxTransfer, "a request over MaxTransfer");
        Promise(
            DeclaredLimits.MemoryAlignment <= 1 || BufferAddress.IsAligned(buffer, DeclaredLimits.MemoryAlignment),
            "a buffer that is not aligned");
    }

    private void CheckSpan(long offset, long count)
    {
        long mask = DeclaredLimits.RequestAlignment - 1;
        Promise(count > 0, "an empty request");
        Promise(offset >= 0 && count <= Length - offset, $"a request outside the disk: 0x{offset:x}+0x{count:x}");
        Promise((offset & mask) == 0, $"an unaligned offset: 0x{offset:x}");
        Promise((count & mask) == 0 || offset + count == Length, $"an unaligned length: 0x{offset:x}+0x{count:x}");
    }
}
