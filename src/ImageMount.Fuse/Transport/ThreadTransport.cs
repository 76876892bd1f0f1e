using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// Workers: dedicated threads, each blocking in read(2) on its own clone of /dev/fuse. A clone has a queue of its own
/// for requests being processed, so workers do not meet on its lock; that is also why a reply must go out through the
/// descriptor its request came in by. An operation that completes synchronously costs read, call, write, on one thread.
/// </summary>
internal sealed class ThreadTransport : IFuseTransport
{
    private readonly Worker[] _workers;
    private readonly FuseRequestPool _pool;
    private readonly FuseSessionOptions _options;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _running;

    /// <param name="device">/dev/fuse, mounted; owned from here on.</param>
    /// <param name="options">Worker count, memory limit, warnings.</param>
    /// <param name="payload">Payload bytes of a buffer.</param>
    public ThreadTransport(SafeFileHandle device, FuseSessionOptions options, int payload)
    {
        _options = options;
        int count = options.Workers > 0
            ? Math.Min(options.Workers, 64)
            : Math.Clamp(2 * Environment.ProcessorCount, 2, 8);
        _pool = new FuseRequestPool(payload, options.BufferMemoryLimit, count);
        _workers = new Worker[count];
        _workers[0] = new Worker(this, 0, device);
    }

    public Task Completion => _completion.Task;

    public IReadOnlyList<FuseRequest> Requests => _pool.All;

    private FuseServer Server { get; set; } = null!;

    public void Start(FuseServer server)
    {
        Server = server;
        Launch(_workers[0]);
    }

    public void Ready()
    {
        for (int i = 1; i < _workers.Length; i++)
        {
            // Who may not open /dev/fuse (fusermount3 did it for us) shares the first descriptor.
            _workers[i] = new Worker(this, i, CloneDevice() ?? _workers[0].Device);
            Launch(_workers[i]);
        }
    }

    public unsafe int Notify(ReadOnlySpan<byte> message)
    {
        fixed (byte* start = message)
        {
            // SAFETY: pinned for the duration of the call; the caller keeps the session's descriptor open.
            nint written = SysWrite.Write(_workers[0].Descriptor, start, (nuint)message.Length);
            return written < 0 ? (int)written : 0;
        }
    }

    public void Dispose()
    {
        foreach (Worker? worker in _workers)
        {
            worker?.Close();
        }
        _pool.Dispose();
    }

    private void Launch(Worker worker)
    {
        Interlocked.Increment(ref _running);
        // Small stacks: the path below is shallow, and file systems that recurse are not invited.
        new Thread(worker.Run, 512 << 10) { IsBackground = true, Name = $"fuse{worker.Index}" }.Start();
    }

    private unsafe SafeFileHandle? CloneDevice()
    {
        SafeFileHandle? clone = SysOpen.TryOpen("/dev/fuse", SysOpen.O_RDWR, out _);
        if (clone is null)
        {
            return null;
        }
        uint original = (uint)_workers[0].Descriptor;
        // SAFETY: FUSE_DEV_IOC_CLONE reads one uint32_t.
        int result = SysIoctl.Ioctl((int)clone.DangerousGetHandle(), FuseConstants.FUSE_DEV_IOC_CLONE, &original);
        if (result < 0)
        {
            _options.Warning?.Invoke($"/dev/fuse cannot be cloned: {Errno.Format(result)}.", null);
            clone.Dispose();
            return null;
        }
        return clone;
    }

    // The first worker to see the end closes the pool, so that workers waiting for a place end as well.
    private void Ended(Exception? failure)
    {
        _pool.Close();
        if (failure is not null)
        {
            _completion.TrySetException(failure);
        }
        if (Interlocked.Decrement(ref _running) == 0)
        {
            _completion.TrySetResult();
        }
    }

    private sealed class Worker(ThreadTransport transport, int index, SafeFileHandle device) : IFuseReplySink
    {
        public int Index => index;

        public SafeFileHandle Device => device;

        /// <summary>Open as long as the transport is not disposed, which is after the last reply.</summary>
        public int Descriptor { get; } = (int)device.DangerousGetHandle();

        public void Run()
        {
            Exception? failure = null;
            try
            {
                Serve();
            }
            catch (Exception e)
            {
                failure = e;
            }
            transport.Ended(failure);
        }

        private void Serve()
        {
            FuseServer server = transport.Server;
            FuseRequest? request = null;
            while (true)
            {
                request ??= transport._pool.Take();
                if (request is null)
                {
                    return;
                }
                int length = Receive(request);
                if (length >= 0)
                {
                    if (!server.Process(request, this, FuseBuffer.RequestStart, length))
                    {
                        request = null;
                    }
                    continue;
                }
                switch (-length)
                {
                    case Errno.ENOENT: // the request was interrupted before we got it
                    case Errno.EAGAIN:
                        continue;
                    case Errno.ENODEV: // unmounted
                    case Errno.ECONNABORTED:
                        transport._pool.Return(request);
                        return;
                    default:
                        throw new ErrnoException("read", "/dev/fuse", -length);
                }
            }
        }

        public unsafe int Send(FuseRequest request, int start, int length)
        {
            // SAFETY: start and length lie inside the buffer, which lives as long as its request.
            nint written = SysWrite.Write(Descriptor, request.Buffer.At(start), (nuint)length);
            return written < 0 ? (int)written : 0;
        }

        public void Recycle(FuseRequest request) => transport._pool.Return(request);

        public void Close() => device.Dispose();

        private unsafe int Receive(FuseRequest request)
        {
            // SAFETY: the buffer has Length bytes from offset 0, and nothing else is in it now.
            return (int)SysRead.Read(
                Descriptor, request.Buffer.At(FuseBuffer.RequestStart),
                (nuint)(request.Buffer.Length - FuseBuffer.RequestStart));
        }
    }
}
