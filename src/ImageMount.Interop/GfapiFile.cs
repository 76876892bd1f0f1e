using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>A glfs_fd_t.</summary>
public sealed unsafe class GfapiFile : IGfapiFile
{
    /// <summary>
    /// Stands for an errno that was lost: the runtime may have overwritten it when it saw a thread of the library for the
    /// first time. The request failed; what for is found out by repeating it.
    /// </summary>
    public const int UnknownErrno = 4095;

    /// <summary>Larger than struct stat on every 64-bit Linux.</summary>
    private const int StatSize = 256;
    private const int SizeAt = 48;
    private const int BlocksAt = 64;
    private const uint TypeMask = 0xF000;
    private const uint TypeRegular = 0x8000;
    private const uint TypeFolder = 0x4000;

    private readonly nint _fd;

    internal GfapiFile(nint fd) => _fd = fd;

    /// <summary>Where st_mode is: the one member of interest whose place differs.</summary>
    private static int ModeAt => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 24 : 16;

    /// <inheritdoc/>
    public int Submit(in GfapiCommand command, IGfapiCompletion completion)
    {
        GfapiRequest request = GfapiRequest.Begin(completion, command.Buffer);

        // SAFETY: the request pins the buffer, which has room for the count, until the library calls back.
        byte* buffer = (byte*)request.Pointer;
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done = &GfapiRequest.Done;
        if (command.Buffer.Length < (command.Operation <= GfapiOperation.Write ? command.Count : 0))
        {
            throw new ArgumentException("the buffer is too small");
        }

        int result = command.Operation switch
        {
            GfapiOperation.Read => GfapiLibrary.glfs_pread_async(
                _fd, buffer, checked((nuint)command.Count), command.Offset, 0, done, request.Id),
            GfapiOperation.Write => GfapiLibrary.glfs_pwrite_async(
                _fd, buffer, checked((int)command.Count), command.Offset, 0, done, request.Id),
            GfapiOperation.Sync => GfapiLibrary.glfs_fsync_async(_fd, done, request.Id),
            GfapiOperation.Zero => GfapiLibrary.glfs_zerofill_async(_fd, command.Offset, command.Count, done, request.Id),
            GfapiOperation.Discard => GfapiLibrary.glfs_discard_async(
                _fd, command.Offset, checked((nuint)command.Count), done, request.Id),
            _ => GfapiLibrary.glfs_ftruncate_async(_fd, command.Offset, done, request.Id),
        };
        int errno = Gfapi.Check(result);
        return result == 0 || !GfapiRequest.TryForget(request.Id) ? 0 : errno;
    }

    /// <inheritdoc/>
    public int TryGetSize(out long size, out long allocated)
    {
        byte* stat = stackalloc byte[StatSize];
        int result = Gfapi.Check(GfapiLibrary.glfs_fstat(_fd, stat));
        var bytes = new ReadOnlySpan<byte>(stat, StatSize);
        size = result != 0 ? 0 : BinaryPrimitives.ReadInt64LittleEndian(bytes[SizeAt..]);
        allocated = result != 0 ? 0 : BinaryPrimitives.ReadInt64LittleEndian(bytes[BlocksAt..]) * 512;
        return result;
    }

    /// <inheritdoc/>
    public long Seek(long offset, int whence)
    {
        long result = GfapiLibrary.glfs_lseek(_fd, offset, whence);
        return result >= 0 ? result : Gfapi.Check(result);
    }

    /// <inheritdoc/>
    public int TryFence(long offset, long owner)
    {
        int result = SetOwner(owner);
        var record = new SysFileLock.Flock { Type = SysFileLock.F_WRLCK, Start = offset, Length = 1 };
        result = result != 0 ? result : Gfapi.Check(GfapiLibrary.glfs_posix_lock(_fd, SysFileLock.F_SETLK, &record));

        // Who asks for the lock later is somebody else, or the answer would always be that nothing stands against it.
        return result != 0 ? result : SetOwner(~owner);
    }

    /// <inheritdoc/>
    public int TryTestFence(long offset)
    {
        var record = new SysFileLock.Flock { Type = SysFileLock.F_WRLCK, Start = offset, Length = 1 };
        int result = Gfapi.Check(GfapiLibrary.glfs_posix_lock(_fd, SysFileLock.F_GETLK, &record));
        return result != 0 ? result : record.Type == SysFileLock.F_UNLCK ? 0 : 1;
    }

    /// <inheritdoc/>
    public void Close() => GfapiLibrary.glfs_close(_fd);

    internal int CheckRegular()
    {
        byte* stat = stackalloc byte[StatSize];
        int result = Gfapi.Check(GfapiLibrary.glfs_fstat(_fd, stat));
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(stat, StatSize)[ModeAt..]) & TypeMask;
        return result != 0 ? result : type == TypeRegular ? 0 : type == TypeFolder ? -Errno.EISDIR : -Errno.EINVAL;
    }

    private int SetOwner(long owner) => Gfapi.Check(GfapiLibrary.glfs_fd_set_lkowner(_fd, (byte*)&owner, sizeof(long)));
}

/// <summary>
/// A request that the library has: keeps its memory in place, and is found by a number, so that a library that calls back
/// twice, or after it has refused, does no harm.
/// </summary>
internal sealed unsafe class GfapiRequest
{
    private static readonly ConcurrentDictionary<nint, GfapiRequest> Table = new();
    private static long _lastId;

    [ThreadStatic]
    private static bool _isKnownThread;

    private readonly IGfapiCompletion _completion;
    private System.Buffers.MemoryHandle _pin;

    private GfapiRequest(nint id, IGfapiCompletion completion, Memory<byte> buffer)
    {
        Id = id;
        _completion = completion;
        _pin = buffer.IsEmpty ? default : buffer.Pin();
    }

    /// <summary>Its number.</summary>
    public nint Id { get; }

    /// <summary>First byte of its memory.</summary>
    public nint Pointer => (nint)_pin.Pointer;

    /// <summary>Makes one.</summary>
    public static GfapiRequest Begin(IGfapiCompletion completion, Memory<byte> buffer)
    {
        var request = new GfapiRequest((nint)Interlocked.Increment(ref _lastId), completion, buffer);
        Table[request.Id] = request;
        _isKnownThread = true;
        return request;
    }

    /// <summary>The library has refused it; false when it called back all the same.</summary>
    public static bool TryForget(nint id)
    {
        bool isThere = Table.TryRemove(id, out GfapiRequest? request);
        request?._pin.Dispose();
        return isThere;
    }

    /// <summary>What the library calls.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    public static void Done(nint fd, nint result, nint before, nint after, nint id)
    {
        int errno = Marshal.GetLastSystemError();
        if (result < 0)
        {
            result = -(!_isKnownThread || errno <= 0 ? GfapiFile.UnknownErrno : errno);
        }

        _isKnownThread = true;
        if (Table.TryRemove(id, out GfapiRequest? request))
        {
            request._pin.Dispose();
            request._completion.Complete(result);
        }
    }
}
