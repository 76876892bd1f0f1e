using ImageMount.Fuse.Protocol;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// One descriptor of the connection. A reply must go out through the descriptor that its request came in by: each has a
/// queue of its own for requests being processed, so users of different channels do not meet on its lock.
/// </summary>
internal sealed class FuseChannel(SafeFileHandle device, FuseRequestPool pool) : IFuseReplySink, IDisposable
{
    /// <summary>/dev/fuse or a clone of it.</summary>
    public SafeFileHandle Device => device;

    /// <summary>Open as long as the transport is not disposed, which is after the last reply.</summary>
    public int Descriptor { get; } = (int)device.DangerousGetHandle();

    /// <summary>Bytes of a request, now at <see cref="FuseBuffer.RequestStart"/>, or -errno.</summary>
    public unsafe int Receive(FuseRequest request)
    {
        // SAFETY: the buffer has Length bytes from offset 0, and nothing else is in it now.
        return (int)SysRead.Read(
            Descriptor, request.Buffer.At(FuseBuffer.RequestStart),
            (nuint)(request.Buffer.Length - FuseBuffer.RequestStart));
    }

    /// <inheritdoc/>
    public unsafe int Send(FuseRequest request, int start, int length)
    {
        // SAFETY: start and length lie inside the buffer, which lives as long as its request.
        nint written = SysWrite.Write(Descriptor, request.Buffer.At(start), (nuint)length);
        return written < 0 ? (int)written : 0;
    }

    /// <inheritdoc/>
    public void Recycle(FuseRequest request) => pool.Return(request);

    public void Dispose() => device.Dispose();
}
