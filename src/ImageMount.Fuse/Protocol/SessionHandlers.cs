using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>Operations about the connection itself.</summary>
internal static class SessionHandlers
{
    private static readonly Action<FuseServer, FuseRequest, int> s_destroyed =
        static (server, request, status) => server.ReplyStatus(request, status);

    private static readonly Action<FuseServer, FuseRequest, FuseNegotiation> s_initialized = ReplyInit;

    public static bool Initialize(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        FuseNegotiation outcome = FuseNegotiation.Negotiate(
            request.Body.Span, server.Options, server.Capacity);
        if (outcome.Error != 0)
        {
            server.ReplyError(request, outcome.Error);
            server.InitializedSource.TrySetException(new FuseException(outcome.Error, outcome.Problem));
            return true;
        }
        if (outcome.Again)
        {
            outcome.Write(request.ReplyPayload(WireSize.InitOut));
            return server.Reply(request, WireSize.InitOut);
        }
        return server.Finish(request, InitializeFileSystemAsync(server, request, outcome), s_initialized);
    }

    // fuse_interrupt_in: unique. EAGAIN makes the kernel ask again, as long as the request has not been answered: it
    // has been read by another worker that did not yet come to serving it.
    public static bool Interrupt(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        if (server.Interrupt(body.U64()))
        {
            request.Counters.Interrupted++;
            return true;
        }
        return server.ReplyAgain(request);
    }

    public static bool Destroy(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(request, DestroyAsync(server), s_destroyed);

    /// <summary>Operations that INIT did not ask for.</summary>
    public static bool NotOffered(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.ReplyError(request, Errno.ENOSYS);

    /// <summary>NOTIFY_REPLY answers a NOTIFY_RETRIEVE, which is never sent here.</summary>
    public static bool Ignore(FuseServer server, FuseRequest request, ref FuseBodyReader body) => true;

    private static async ValueTask<int> DestroyAsync(FuseServer server)
    {
        await server.DestroyAsync().ConfigureAwait(false);
        return 0;
    }

    private static async ValueTask<FuseNegotiation> InitializeFileSystemAsync(
        FuseServer server, FuseRequest request, FuseNegotiation outcome)
    {
        // Published before the hook runs (it may look at it), and before the reply: with the reply the kernel may
        // send the next request at once, to any worker.
        server.Info = outcome.Info;
        try
        {
            await server.FileSystem.InitializeAsync(server.Connection, request.Token).ConfigureAwait(false);
            return outcome;
        }
        catch (Exception e)
        {
            server.InitializedSource.TrySetException(e);
            throw;
        }
    }

    private static void ReplyInit(FuseServer server, FuseRequest request, FuseNegotiation outcome)
    {
        outcome.Write(request.ReplyPayload(WireSize.InitOut));
        server.Reply(request, WireSize.InitOut);
        server.InitializedSource.TrySetResult();
    }
}
