using ImageMount.Interop;

namespace ImageMount.Protocols.Remote.Tls;

/// <summary>
/// A TLS session of GnuTLS over a stream. The session works on buffers only (<see cref="GnuTlsSession"/>); all waiting is
/// done here, on the stream below. One reader and one writer at a time.
/// </summary>
internal sealed class GnuTlsStream(Stream inner, GnuTlsSession session) : Stream
{
    private const int WriteStep = 128 << 10;
    private readonly byte[] _incoming = new byte[32 << 10];
    private readonly SemaphoreSlim _sending = new(1, 1);

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Agrees on keys; an IOException when that fails.</summary>
    public async Task HandshakeAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            bool isDone = session.TryHandshake(out string? error);
            await SendOutputAsync(cancellationToken).ConfigureAwait(false); // An alert too.
            if (error is not null)
            {
                throw new IOException(error);
            }

            if (isDone)
            {
                return;
            }

            if (!await FeedAsync(cancellationToken).ConfigureAwait(false))
            {
                throw new IOException("the server closed the connection during the handshake");
            }
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (true)
        {
            int count = session.Receive(buffer.Span, out string? error);
            if (error is not null)
            {
                throw new IOException(error);
            }

            if (count >= 0)
            {
                return count;
            }

            await SendOutputAsync(cancellationToken).ConfigureAwait(false); // Answers to what the server asked for.
            if (!await FeedAsync(cancellationToken).ConfigureAwait(false))
            {
                return 0;
            }
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (!buffer.IsEmpty)
        {
            ReadOnlyMemory<byte> step = buffer[..Math.Min(buffer.Length, WriteStep)];
            if (session.Send(step.Span) is { } error)
            {
                throw new IOException(error);
            }

            await SendOutputAsync(cancellationToken).ConfigureAwait(false);
            buffer = buffer[step.Length..];
        }
    }

    /// <inheritdoc/>
    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
            session.Dispose();
        }

        base.Dispose(disposing);
    }

    private async ValueTask<bool> FeedAsync(CancellationToken cancellationToken)
    {
        int count = await inner.ReadAsync(_incoming, cancellationToken).ConfigureAwait(false);
        session.Feed(_incoming.AsSpan(0, count));
        return count > 0;
    }

    /// <summary>Sends what the session has ready, in its order.</summary>
    private async ValueTask SendOutputAsync(CancellationToken cancellationToken)
    {
        if (!session.HasOutput)
        {
            return;
        }

        await _sending.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (session.TakeOutput() is { Length: > 0 } output)
            {
                await inner.WriteAsync(output, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _sending.Release();
        }
    }
}
