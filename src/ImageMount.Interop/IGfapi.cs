namespace ImageMount.Interop;

/// <summary>What can be asked of a file without waiting for the answer.</summary>
public enum GfapiOperation
{
    /// <summary>Reads; the result is a number of bytes, 0 at the end of the file.</summary>
    Read,

    /// <summary>Writes; the result is a number of bytes.</summary>
    Write,

    /// <summary>Makes durable what was written.</summary>
    Sync,

    /// <summary>Makes a range read as zeroes; its space stays.</summary>
    Zero,

    /// <summary>Frees the space of a range, which reads as zeroes then.</summary>
    Discard,

    /// <summary>Sets the size.</summary>
    Truncate,
}

/// <summary>One request to a file.</summary>
/// <param name="Operation">What.</param>
/// <param name="Offset">First byte; the new size for <see cref="GfapiOperation.Truncate"/>.</param>
/// <param name="Count">Bytes.</param>
/// <param name="Buffer">As many bytes for reads and writes; else empty.</param>
public readonly record struct GfapiCommand(GfapiOperation Operation, long Offset, long Count, Memory<byte> Buffer);

/// <summary>Told of the end of a request.</summary>
public interface IGfapiCompletion
{
    /// <summary>
    /// The request is done, and nothing touches its memory any more. Called once, on a thread of the library, or on the
    /// thread of <see cref="IGfapiFile.Submit"/> while that is running. Must neither wait nor throw.
    /// </summary>
    /// <param name="result">As the operation has it; or -errno, where -<see cref="GfapiFile.UnknownErrno"/> says that it is
    /// not known.</param>
    void Complete(long result);
}

/// <summary>How to reach a volume.</summary>
/// <param name="Volume">Its name.</param>
/// <param name="Servers">Where its description is to be had; one after the other is tried.</param>
/// <param name="LogFile">File for what the library has to say; "-" is the standard error.</param>
/// <param name="LogLevel">How much it says, 0 to 9.</param>
public sealed record GfapiTarget(string Volume, IReadOnlyList<GfapiServer> Servers, string LogFile, int LogLevel);

/// <summary>A server: "tcp" or "rdma" with host and port, "unix" with a path and port 0.</summary>
public readonly record struct GfapiServer(string Transport, string Host, int Port);

/// <summary>The library; what tests replace. Everything but <see cref="IGfapiFile.Submit"/> may block for long.</summary>
public interface IGfapi
{
    /// <summary>Connects to a volume. 0 or -errno.</summary>
    int TryConnect(GfapiTarget target, out IGfapiVolume? volume);
}

/// <summary>A connection to a volume; may be used by several threads at once.</summary>
public interface IGfapiVolume
{
    /// <summary>Opens a file. 0 or -errno; -EISDIR for folders, -EINVAL for special files.</summary>
    int TryOpen(string path, bool writable, out IGfapiFile? file);

    /// <summary>Makes an empty file. 0 or -errno; -EEXIST when there is something already.</summary>
    int TryCreate(string path);

    /// <summary>Removes a file. 0 or -errno.</summary>
    int TryRemove(string path);

    /// <summary>Ends the connection, which takes ten seconds and more. No file may be open.</summary>
    void Finish();
}

/// <summary>An open file.</summary>
public interface IGfapiFile
{
    /// <summary>Begins a request. 0: the end will be told; -errno: it was not begun, and will not be told of.</summary>
    int Submit(in GfapiCommand command, IGfapiCompletion completion);

    /// <summary>Size and space in use, bytes. 0 or -errno.</summary>
    int TryGetSize(out long size, out long allocated);

    /// <summary>Finds data or a hole (SEEK_DATA, SEEK_HOLE); -errno.</summary>
    long Seek(long offset, int whence);

    /// <summary>
    /// Takes a lock on one byte under a name. 0 or -errno; -EAGAIN while another connection has it. From then on the file
    /// does not survive a lost connection: whatever is asked of it fails with EBADFD.
    /// </summary>
    int TryFence(long offset, long owner);

    /// <summary>1 when the lock is still there, 0 when the brick has forgotten it; -errno.</summary>
    int TryTestFence(long offset);

    /// <summary>Closes. No request may be under way: the library would never tell of its end.</summary>
    void Close();
}
