using System.Collections.Concurrent;
using System.Diagnostics;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport.Uring;

/// <summary>
/// One thread with one ring: takes the requests that are made on one processor, has them processed, and hands replies over
/// together with its wait for the next request, in one system call.
/// </summary>
/// <remarks>
/// The thread is not bound to the processor. Bound, it shares it with who waits for the answer, and the scheduler moves
/// that one away; free, it looks for the next request from another processor while it pays (<see cref="SpinGauge"/>).
/// Measured on 2 virtual processors, 4 KiB random reads, thousands a second, three rounds: bound 27–38 (1 job) and 71–88
/// (4 jobs), bound and looking 27–36 and 76–85, free and looking 34–48 and 64–93; workers on /dev/fuse 38–56 and 44–55.
/// <para>
/// An operation that blocks the thread keeps those behind it waiting, because only this thread can take what was put into
/// its queue; <see cref="UringPace"/> sends what is likely to block to helpers.
/// </para>
/// An entry belongs to the thread that submits it, so whoever else finishes a request (a suspended operation, a helper)
/// gives the place back through a list and wakes the thread. States of a place: with the kernel (registered or committed)
/// → here (completion seen) → processed here, by a helper, or suspended → committed. It is lost when its completion is an
/// error, which is how the end of the connection shows.
/// </remarks>
internal sealed unsafe class UringQueue
{
    private const uint WakeEntry = uint.MaxValue;
    private const byte IORING_OP_READ = 22;
    private const byte IORING_OP_URING_CMD = 46;
    private const uint FUSE_IO_URING_CMD_REGISTER = 1;
    private const uint FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2;

    // Where counters of eventfds are read to, and nobody looks. Never freed: the kernel may still be about to write there
    // when a ring has been closed.
    private static readonly byte* s_counter = PageMemory.Map(FuseConstants.PageSize);

    private readonly UringTransport _transport;
    private readonly int _device;
    private readonly UringPlace[] _places;
    private readonly SafeFileHandle _wake = SysEventFd.Create();
    private readonly ConcurrentQueue<UringPlace> _returned = new();
    private readonly TaskCompletionSource<int> _created = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<int> _registered = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ManualResetEventSlim _go = new(false);
    private readonly Thread _thread;
    private UringPace _pace = new();
    private SpinGauge _spin = new();
    private int _wakePending;
    private int _live;
    private volatile bool _stopping;

    /// <param name="transport">Whose queue it is.</param>
    /// <param name="device">/dev/fuse, open until this is disposed.</param>
    /// <param name="index">For the thread's name.</param>
    /// <param name="numbers">The kernel's queue of every entry.</param>
    /// <param name="payload">Payload bytes of an entry.</param>
    public UringQueue(UringTransport transport, int device, int index, IReadOnlyList<int> numbers, int payload)
    {
        _transport = transport;
        _device = device;
        _places = new UringPlace[numbers.Count];
        for (int i = 0; i < _places.Length; i++)
        {
            _places[i] = new UringPlace(this, i, numbers[i], new FuseBuffer(payload));
        }

        _thread = new Thread(Run, 512 << 10) { IsBackground = true, Name = $"fuse-queue{index}" };
    }

    public IReadOnlyList<UringPlace> Places => _places;

    /// <summary>Makes the ring: 0, or the errno with which the kernel refused it.</summary>
    public int Start()
    {
        _thread.Start();
        return _created.Task.GetAwaiter().GetResult();
    }

    /// <summary>Offers the entries to the kernel: 0, or the errno with which it refused one.</summary>
    public int Register()
    {
        _go.Set();
        return _registered.Task.GetAwaiter().GetResult();
    }

    /// <summary>Nobody may be processing a request of this queue. Waits for the thread, then frees its memory.</summary>
    public void Dispose()
    {
        _stopping = true;
        _go.Set();
        SysEventFd.Signal((int)_wake.DangerousGetHandle());
        if (_created.Task.IsCompleted)
        {
            _thread.Join();
        }

        foreach (UringPlace place in _places)
        {
            place.Request.Dispose();
        }

        _wake.Dispose();
        _go.Dispose();
    }

    /// <summary>From any thread: the reply is staged, and the place may be committed.</summary>
    public void GiveBack(UringPlace place)
    {
        _returned.Enqueue(place);
        if (Interlocked.Exchange(ref _wakePending, 1) == 0)
        {
            SysEventFd.Signal((int)_wake.DangerousGetHandle());
        }
    }

    private void Run()
    {
        Exception? failure = null;
        try
        {
            using IoRing? ring = IoRing.TryCreate((uint)_places.Length + 2, out int errno);
            _created.SetResult(errno);
            if (ring is not null)
            {
                _go.Wait();
                if (!_stopping)
                {
                    Serve(ring);
                }
            }
        }
        catch (Exception e)
        {
            failure = e;
            _created.TrySetException(e);
            _registered.TrySetException(e);
        }
        finally
        {
            _pace.Dispose();
        }

        _transport.Ended(failure);
    }

    private void Serve(IoRing ring)
    {
        ArmWake(ring);
        foreach (UringPlace place in _places)
        {
            Command(ring, place, FUSE_IO_URING_CMD_REGISTER);
        }

        _live = _places.Length;
        Submit(ring, 0);
        _registered.SetResult(TakeRefusal(ring));
        while (_live > 0 && !_stopping)
        {
            CommitReturned(ring);
            Wait(ring);
            while (ring.TryTake(out ulong which, out int result))
            {
                Complete(ring, which, result);
            }
        }
    }

    private void Wait(IoRing ring)
    {
        if (_spin.IsWorthIt)
        {
            Submit(ring, 0);
            long until = Stopwatch.GetTimestamp() + SpinGauge.Budget;
            do
            {
                if (ring.HasNews)
                {
                    _spin.Hit();
                    Submit(ring, 0);
                    return;
                }
            }
            while (Stopwatch.GetTimestamp() < until);
            _spin.Miss();
        }

        long began = Stopwatch.GetTimestamp();
        Submit(ring, 1);
        _spin.Slept(Stopwatch.GetTimestamp() - began);
    }

    // What the kernel refuses it refuses while it is submitted.
    private int TakeRefusal(IoRing ring)
    {
        int refusal = 0;
        while (ring.TryTake(out ulong which, out int result))
        {
            if (which != WakeEntry && result < 0)
            {
                refusal = -result;
            }

            Complete(ring, which, result);
        }

        return refusal;
    }

    private void Complete(IoRing ring, ulong which, int result)
    {
        if (which == WakeEntry)
        {
            Volatile.Write(ref _wakePending, 0);
            ArmWake(ring);
        }
        else if (result < 0)
        {
            _live--;
            if (result is not (-Errno.ENOTCONN or -Errno.ECONNABORTED or -Errno.ECANCELED or -Errno.ENODEV))
            {
                _transport.Server.Warn($"The kernel gave a FUSE ring entry back: {Errno.Format(-result)}.", null);
            }
        }
        else
        {
            Handle(ring, _places[which]);
        }
    }

    private void Handle(IoRing ring, UringPlace place)
    {
        if (!place.TryAssemble())
        {
            _transport.Server.Warn("A FUSE request's lengths contradict each other; it is answered EIO.", null);
            Command(ring, place, FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
            return;
        }

        if (_pace.MustHandOver(place.Opcode))
        {
            _transport.Helpers.Add(place);
            return;
        }

        long began = Stopwatch.GetTimestamp();
        bool completed = place.Process(_transport.Server);
        long took = Stopwatch.GetTimestamp() - began;
        if (completed)
        {
            _pace.Took(took, place.Length + place.Request.Expected);
            Command(ring, place, FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
            if (took > UringPace.WorthASystemCall)
            {
                Submit(ring, 0); // Its caller should not wait until those behind it are done.
            }
        }
    }

    private void CommitReturned(IoRing ring)
    {
        while (_returned.TryDequeue(out UringPlace? place))
        {
            Command(ring, place, FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
        }
    }

    private void Command(IoRing ring, UringPlace place, uint command)
    {
        // SAFETY: the entry has 128 bytes; the iovecs and what they point to live as long as the place.
        byte* entry = Next(ring);
        entry[0] = IORING_OP_URING_CMD;
        *(int*)(entry + 4) = _device;
        *(uint*)(entry + 8) = command;
        *(ulong*)(entry + 32) = (ulong)place.Index;
        if (command == FUSE_IO_URING_CMD_REGISTER)
        {
            *(ulong*)(entry + 16) = (ulong)place.VectorAddress;
            *(uint*)(entry + 24) = 2;
        }
        else
        {
            *(ulong*)(entry + 48 + 8) = place.Commit;
        }

        // struct fuse_uring_cmd_req at 48: flags, commit_id, qid
        *(ushort*)(entry + 48 + 16) = (ushort)place.Number;
    }

    private void ArmWake(IoRing ring)
    {
        // SAFETY: the entry has 128 bytes; the counter's memory lives as long as the process.
        byte* entry = Next(ring);
        entry[0] = IORING_OP_READ;
        *(int*)(entry + 4) = (int)_wake.DangerousGetHandle();
        *(ulong*)(entry + 16) = (ulong)s_counter;
        *(uint*)(entry + 24) = sizeof(ulong);
        *(ulong*)(entry + 32) = WakeEntry;
    }

    private static byte* Next(IoRing ring)
    {
        byte* entry = ring.Next();
        if (entry is null)
        {
            Submit(ring, 0);
            entry = ring.Next();
        }

        return entry is not null ? entry : throw new InvalidOperationException("the ring takes no entry");
    }

    private static void Submit(IoRing ring, uint wait)
    {
        int result = ring.Submit(wait);
        if (result < 0 && result != -Errno.EBUSY && result != -Errno.EAGAIN)
        {
            throw new ErrnoException("io_uring_enter", null, -result);
        }
    }
}
