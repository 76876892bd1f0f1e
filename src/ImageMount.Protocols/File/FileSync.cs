using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Files;

/// <summary>
/// Makes writes durable, and remembers for good when that failed: the kernel reports a failed write-back once for each
/// descriptor and then treats the pages as clean, so a later fdatasync(2) that succeeds proves nothing about them.
/// </summary>
/// <remarks>
/// One fdatasync at a time, or two threads could share one report and one of them not hear of it. Who asks while one is
/// running is served by the next, together with all others who asked meanwhile. The descriptor is used for no durable
/// writes (<see cref="FileTransfer"/>), which would take reports away as well.
/// </remarks>
internal sealed class FileSync(int fd, string name)
{
    private const string Hint =
        "What was written since the last flush may be lost. Close the image, mend the storage, then check the image.";

    private readonly Lock _one = new();
    private long _asked;
    private long _served;
    private int _failed;

    /// <summary>Everything written before is durable; throws when that is not so, and from then on always.</summary>
    /// <exception cref="BlockException">Kind by errno: IoError, NoSpace.</exception>
    public void Flush()
    {
        long ticket = Interlocked.Increment(ref _asked);
        lock (_one)
        {
            if (_failed != 0)
            {
                throw HostErrors.Make(_failed, "cannot flush to disk, because an earlier flush failed", name, hint: Hint);
            }

            if (_served >= ticket)
            {
                return;
            }

            long covered = Volatile.Read(ref _asked);
            _failed = -SysFdatasync.Sync(fd);
            if (_failed != 0)
            {
                throw HostErrors.Make(_failed, "cannot flush to disk", name, hint: Hint);
            }

            _served = covered;
        }
    }
}
