using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Tests.Kernel;

// File systems that misbehave, look closely, or wait, each for one of the kernel tests.

internal sealed class BlockingReads(int readers) : MemoryFileSystem
{
    public CountdownEvent AllBlocked { get; } = new(readers);

    public ManualResetEventSlim LetGo { get; } = new();

    public override ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        AllBlocked.Signal();
        LetGo.Wait(CancellationToken.None);
        return new(0);
    }
}

internal sealed class AlignmentProbe : MemoryFileSystem
{
    public List<int> WriteLengths { get; } = [];

    public List<int> ReadLengths { get; } = [];

    public int Misaligned { get; private set; }

    public override ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        Look(destination.Span);
        ReadLengths.Add(destination.Length);
        return base.ReadAsync(context, inode, handle, offset, destination, cancellationToken);
    }

    public override ValueTask<int> WriteAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, ReadOnlyMemory<byte> data,
        FuseWriteInfo info, CancellationToken cancellationToken)
    {
        Look(data.Span);
        WriteLengths.Add(data.Length);
        return base.WriteAsync(context, inode, handle, offset, data, info, cancellationToken);
    }

    private unsafe void Look(ReadOnlySpan<byte> span)
    {
        // SAFETY: only the address is looked at.
        fixed (byte* address = span)
        {
            Misaligned += (nint)address % 4096 == 0 ? 0 : 1;
        }
    }
}

internal sealed class FailingInit : MemoryFileSystem
{
    public override ValueTask InitializeAsync(IFuseConnection connection, CancellationToken cancellationToken) =>
        ValueTask.FromException(new FuseException(Errno.ENOMEDIUM, "no medium"));
}

internal sealed class NeverReading : MemoryFileSystem
{
    public TaskCompletionSource Started { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public TaskCompletionSource Cancelled { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public CancellationTokenSource GiveUp { get; } = new();

    public override async ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, GiveUp.Token);
        Started.TrySetResult();
        try
        {
            await new TaskCompletionSource().Task.WaitAsync(either.Token).ConfigureAwait(false);
            return 0;
        }
        finally
        {
            Cancelled.TrySetResult();
        }
    }
}

internal sealed class PassthroughProbe(string host) : MemoryFileSystem
{
    public int BackingId { get; private set; }

    public override ValueTask<FuseResult<FuseOpenReply>> OpenAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken)
    {
        using SafeFileHandle file = File.OpenHandle(host, FileMode.Open, FileAccess.ReadWrite);
        BackingId = Connection!.RegisterBacking(file);
        return BackingId > 0
            ? FuseResult<FuseOpenReply>.Completed(new FuseOpenReply(1, FuseOpenFlags.Passthrough, BackingId))
            : FuseResult<FuseOpenReply>.Failed(-BackingId);
    }
}

/// <summary>Suspends every read once, so that continuations answer from other threads.</summary>
internal sealed class Yielding : MemoryFileSystem
{
    public override async ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        await Task.Yield();
        return await base.ReadAsync(context, inode, handle, offset, destination, cancellationToken);
    }
}

internal sealed class SleepyReads : MemoryFileSystem
{
    private int _now;
    private int _most;

    /// <summary>The most operations that ran at the same time.</summary>
    public int MostAtOnce => Volatile.Read(ref _most);

    public override ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        int now = Interlocked.Increment(ref _now);
        for (int most = _most; now > most && Interlocked.CompareExchange(ref _most, now, most) != most; most = _most)
        {
        }

        using var never = new ManualResetEventSlim();
        never.Wait(TimeSpan.FromMilliseconds(5), CancellationToken.None); // a disk
        BitConverter.TryWriteBytes(destination.Span, offset);
        Interlocked.Decrement(ref _now);
        return new(destination.Length);
    }
}
