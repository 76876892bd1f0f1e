using System.Runtime.CompilerServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>
/// One io_uring(7) with entries of 128 bytes, used by the thread that made it and by no other. Completions appear only
/// while that thread is in <see cref="Submit"/> (IORING_SETUP_DEFER_TASKRUN). Linux 6.6.
/// </summary>
/// <remarks>Layouts: linux/io_uring.h (struct io_uring_params 120 bytes, io_sqring_offsets at 40, io_cqring_offsets at 80,
/// io_uring_cqe 16 bytes).</remarks>
public sealed unsafe class IoRing : IDisposable
{
    /// <summary>Bytes of a submission entry.</summary>
    public const int EntrySize = 128;

    private const uint IORING_SETUP_CLAMP = 1 << 4;
    private const uint IORING_SETUP_COOP_TASKRUN = 1 << 8;
    private const uint IORING_SETUP_TASKRUN_FLAG = 1 << 9;
    private const uint IORING_SETUP_SQE128 = 1 << 10;
    private const uint IORING_SETUP_SINGLE_ISSUER = 1 << 12;
    private const uint IORING_SETUP_NO_SQARRAY = 1 << 16;
    private const uint IORING_FEAT_SINGLE_MMAP = 1;
    private const uint IORING_ENTER_GETEVENTS = 1;
    private const uint IORING_SQ_TASKRUN = 1 << 2;
    private const long IORING_OFF_SQ_RING = 0;
    private const long IORING_OFF_SQES = 0x10000000;
    private const int CompletionSize = 16;

    private readonly SafeFileHandle _handle;
    private readonly int _fd;
    private readonly byte* _rings;
    private readonly nuint _ringsLength;
    private readonly byte* _entries;
    private readonly nuint _entriesLength;
    private readonly uint* _submissionHead;
    private readonly uint* _submissionTail;
    private readonly uint* _submissionFlags;
    private readonly uint* _completionHead;
    private readonly uint* _completionTail;
    private readonly byte* _completions;
    private readonly uint _submissionCount;
    private readonly uint _completionMask;
    private uint _tail;
    private uint _pending;
    private bool _closed;

    private IoRing(SafeFileHandle handle, byte* parameters, byte* rings, nuint ringsLength, byte* entries, nuint entriesLength)
    {
        _handle = handle;
        _fd = (int)handle.DangerousGetHandle();
        _rings = rings;
        _ringsLength = ringsLength;
        _entries = entries;
        _entriesLength = entriesLength;
        _submissionHead = (uint*)(rings + Word(parameters, 40));
        _submissionTail = (uint*)(rings + Word(parameters, 44));
        _submissionFlags = (uint*)(rings + Word(parameters, 56));
        _submissionCount = Word(parameters, 0);
        _completionHead = (uint*)(rings + Word(parameters, 80));
        _completionTail = (uint*)(rings + Word(parameters, 84));
        _completionMask = *(uint*)(rings + Word(parameters, 88));
        _completions = rings + Word(parameters, 100);
    }

    /// <summary>A ring, or null and a positive errno (ENOSYS, EPERM: not allowed here; EINVAL: too old a kernel).</summary>
    /// <param name="entries">How many entries can be written between two <see cref="Submit"/>s, at most 32,768.</param>
    /// <param name="errno">0 on success.</param>
    public static IoRing? TryCreate(uint entries, out int errno)
    {
        byte* parameters = stackalloc byte[120];
        new Span<byte>(parameters, 120).Clear();
        *(uint*)(parameters + 8) = IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG
            | IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_NO_SQARRAY;
        SafeFileHandle? handle = SysIoUring.TrySetup(entries, parameters, out errno);
        if (handle is null)
        {
            return null;
        }

        if ((Word(parameters, 20) & IORING_FEAT_SINGLE_MMAP) == 0)
        {
            handle.Dispose();
            errno = Errno.ENOSYS;
            return null;
        }

        int fd = (int)handle.DangerousGetHandle();
        nuint ringsLength = Math.Max(
            Word(parameters, 44) + sizeof(uint), Word(parameters, 100) + (Word(parameters, 4) * CompletionSize));
        nuint entriesLength = Word(parameters, 0) * EntrySize;
        byte* rings = PageMemory.TryMapShared(fd, ringsLength, IORING_OFF_SQ_RING, out errno);
        byte* submissions = rings is null ? null : PageMemory.TryMapShared(fd, entriesLength, IORING_OFF_SQES, out errno);
        if (submissions is null)
        {
            if (rings is not null)
            {
                PageMemory.Unmap(rings, ringsLength);
            }

            handle.Dispose();
            return null;
        }

        return new IoRing(handle, parameters, rings, ringsLength, submissions, entriesLength);
    }

    /// <summary>A cleared entry to fill in, which the next <see cref="Submit"/> hands over; null when all are in use.
    /// </summary>
    public byte* Next()
    {
        if (_tail - Volatile.Read(ref *_submissionHead) >= _submissionCount)
        {
            return null;
        }

        // SAFETY: masked into the array of entries, and free: the kernel has taken what was in it.
        byte* entry = _entries + ((_tail & (_submissionCount - 1)) * EntrySize);
        new Span<byte>(entry, EntrySize).Clear();
        _tail++;
        _pending++;
        return entry;
    }

    /// <summary>Hands over what was filled in, and waits until there are <paramref name="wait"/> completions.</summary>
    /// <returns>0, or -errno. EINTR is retried.</returns>
    public int Submit(uint wait)
    {
        Volatile.Write(ref *_submissionTail, _tail);
        while (true)
        {
            int taken = SysIoUring.Enter(_fd, _pending, wait, IORING_ENTER_GETEVENTS);
            if (taken >= 0)
            {
                _pending -= (uint)taken;
                return 0;
            }

            if (taken != -Errno.EINTR)
            {
                return taken;
            }

            // Interrupted in its wait: what was to be handed over has been, as the head tells.
            _pending = _tail - Volatile.Read(ref *_submissionHead);
        }
    }

    /// <summary>A <see cref="Submit"/> that waits for nothing would find completions. Costs no system call.</summary>
    public bool HasNews =>
        (Volatile.Read(ref *_submissionFlags) & IORING_SQ_TASKRUN) != 0 || *_completionHead != Volatile.Read(ref *_completionTail);

    /// <summary>Takes one completion. False when there is none.</summary>
    public bool TryTake(out ulong userData, out int result)
    {
        uint head = *_completionHead;
        if (head == Volatile.Read(ref *_completionTail))
        {
            Unsafe.SkipInit(out userData);
            Unsafe.SkipInit(out result);
            return false;
        }

        // SAFETY: masked into the array of completions; the tail says that the kernel has filled it in.
        byte* completion = _completions + ((head & _completionMask) * CompletionSize);
        userData = *(ulong*)completion;
        result = *(int*)(completion + 8);
        Volatile.Write(ref *_completionHead, head + 1);
        return true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_closed)
        {
            _closed = true;
            PageMemory.Unmap(_entries, _entriesLength);
            PageMemory.Unmap(_rings, _ringsLength);
            _handle.Dispose();
        }
    }

    private static uint Word(byte* parameters, int at) => *(uint*)(parameters + at);
}
