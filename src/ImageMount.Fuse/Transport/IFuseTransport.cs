using ImageMount.Fuse.Protocol;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// Carries requests from the kernel to a <see cref="FuseServer"/> and its replies back. One implementation reads
/// /dev/fuse on worker threads; another may use FUSE-over-io_uring: it would put fuse_in_header and the op header at
/// <see cref="FuseBuffer.PayloadStart"/> minus their size and the payload at PayloadStart, and hand the same
/// <see cref="FuseRequest"/> on.
/// </summary>
internal interface IFuseTransport : IDisposable
{
    /// <summary>Completes when the kernel has hung up and nothing reads requests any more; operations may still be
    /// suspended. Fails when the transport itself failed.</summary>
    Task Completion { get; }

    /// <summary>All requests that exist, in flight or not; grows only.</summary>
    IReadOnlyList<FuseRequest> Requests { get; }

    /// <summary>Starts to serve, INIT first.</summary>
    void Start(FuseServer server);

    /// <summary>INIT was answered: bring up the rest (clones of the descriptor, more workers).</summary>
    void Ready();

    /// <summary>Sends a notification: 0 or -errno.</summary>
    int Notify(ReadOnlySpan<byte> message);
}

/// <summary>Where the reply to a request goes; belongs to the transport that brought the request.</summary>
internal interface IFuseReplySink
{
    /// <summary>Sends bytes <paramref name="start"/> … start + length of the request's buffer: one whole
    /// reply.</summary>
    /// <returns>0 or -errno. ENOENT: the caller of the system call has given up, which is no error.</returns>
    int Send(FuseRequest request, int start, int length);

    /// <summary>A request that had suspended is finished: its buffer may be used again.</summary>
    void Recycle(FuseRequest request);
}
