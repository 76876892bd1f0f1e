using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>A file that is open on a connection.</summary>
internal sealed class SftpFile : IRemoteConnection
{
    private readonly byte[] _handle;

    private SftpFile(SftpConnection connection, byte[] handle)
    {
        Connection = connection;
        _handle = handle;
    }

    /// <summary>The connection, which only this file uses.</summary>
    public SftpConnection Connection { get; }

    /// <inheritdoc/>
    public int Outstanding => Connection.Outstanding;

    /// <inheritdoc/>
    public long Progress => Connection.Progress;

    /// <inheritdoc/>
    public Task<BlockException> Ended => Connection.Ended;

    /// <summary>Attributes when it was opened; the size is there.</summary>
    public SftpAttributes Attributes { get; private set; }

    /// <summary>Bytes when it was opened.</summary>
    public long Size => Attributes.Size!.Value;

    /// <summary>Opens a regular file.</summary>
    public static async Task<SftpFile> OpenAsync(SftpConnection connection, string path, bool writable)
    {
        uint flags = SftpLayout.OpenRead | (writable ? SftpLayout.OpenWrite : 0);
        SftpReply reply = await connection.RequestAsync(SftpPackets.Open(path, flags), SftpType.Handle)
            .ConfigureAwait(false);
        await ThrowIfNotDoneAsync(
            connection, writable ? "cannot open the file for writing" : "cannot open the file", reply).ConfigureAwait(false);
        var file = new SftpFile(connection, HandleOf(reply));
        reply = await connection.RequestAsync(SftpPackets.About(SftpType.FStat, file._handle), SftpType.Attrs)
            .ConfigureAwait(false);
        await ThrowIfNotDoneAsync(connection, "cannot tell the size of the file", reply).ConfigureAwait(false);
        file.Attributes = new SftpReader(reply.Body).Attributes();
        if (file.Attributes.Permissions is { } mode && (mode & SftpLayout.TypeMask) is not (0 or SftpLayout.TypeRegular))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the server cannot show that as a disk")
            {
                Found = "a folder or a special file",
                Expected = "a regular file",
            };
        }

        return file.Attributes.Size is not null ? file : throw new BlockException(
            BlockErrorKind.NotSupported, "the server does not tell the size of the file");
    }

    /// <summary>Makes an empty file; false when there is something already.</summary>
    public static async Task<bool> CreateAsync(SftpConnection connection, string path)
    {
        if (await ExistsAsync(connection, path).ConfigureAwait(false))
        {
            return false;
        }

        const uint flags = SftpLayout.OpenWrite | SftpLayout.OpenCreate | SftpLayout.OpenExclusive;
        SftpReply reply = await connection.RequestAsync(SftpPackets.Open(path, flags), SftpType.Handle)
            .ConfigureAwait(false);

        // Version 3 has no word for "it is there already".
        if (reply is { Outcome: ReplyOutcome.Refused, Status: SftpStatus.Failure }
            && await ExistsAsync(connection, path).ConfigureAwait(false))
        {
            return false;
        }

        await ThrowIfNotDoneAsync(connection, "cannot make the file", reply).ConfigureAwait(false);
        reply = await connection.RequestAsync(SftpPackets.About(SftpType.Close, HandleOf(reply)), SftpType.Status)
            .ConfigureAwait(false);
        await ThrowIfNotDoneAsync(connection, "cannot make the file", reply).ConfigureAwait(false);
        return true;
    }

    /// <summary>Removes a file; one that is gone already is no error.</summary>
    public static async Task RemoveAsync(SftpConnection connection, string path)
    {
        SftpReply reply = await connection.RequestAsync(
            SftpPackets.About(SftpType.Remove, System.Text.Encoding.UTF8.GetBytes(path)), SftpType.Status)
            .ConfigureAwait(false);
        if (reply.Status != SftpStatus.NoSuchFile)
        {
            await ThrowIfNotDoneAsync(connection, "cannot remove the file", reply).ConfigureAwait(false);
        }
    }

    /// <summary>Reads; the answer may be shorter than the buffer, but is not empty.</summary>
    public ValueTask<SftpReply> ReadAsync(long offset, Memory<byte> target, CancellationToken cancellationToken) =>
        Connection.RequestAsync(
            new SftpRequest(SftpPackets.Read(_handle, offset, target.Length), SftpType.Data) { Target = target },
            cancellationToken);

    /// <summary>Writes, in as many requests as it takes, all at once. The first that failed is the answer.</summary>
    public async ValueTask<SftpReply> WriteAsync(long offset, ReadOnlyMemory<byte> data)
    {
        int step = Connection.MaxWrite;
        if (data.Length <= step)
        {
            return await PartAsync(offset, data).ConfigureAwait(false);
        }

        var parts = new List<Task<SftpReply>>();
        for (int at = 0; at < data.Length; at += step)
        {
            parts.Add(PartAsync(offset + at, data.Slice(at, Math.Min(step, data.Length - at))).AsTask());
        }

        SftpReply[] replies = await Task.WhenAll(parts).ConfigureAwait(false);
        return replies.FirstOrDefault(reply => !reply.IsOk, replies[0]);
    }

    /// <summary>Attributes by now; null when the connection has ended.</summary>
    public async ValueTask<SftpAttributes?> LookAsync(CancellationToken cancellationToken)
    {
        SftpReply reply = await Connection.RequestAsync(
            new SftpRequest(SftpPackets.About(SftpType.FStat, _handle), SftpType.Attrs), cancellationToken)
            .ConfigureAwait(false);
        return reply.IsOk ? new SftpReader(reply.Body).Attributes() : null;
    }

    /// <summary>Makes durable what was acknowledged before.</summary>
    public ValueTask<SftpReply> FlushAsync() =>
        Connection.RequestAsync(SftpPackets.Extended(SftpLayout.Fsync, _handle), SftpType.Status);

    /// <summary>Sets the size.</summary>
    public ValueTask<SftpReply> SetSizeAsync(long size) =>
        Connection.RequestAsync(SftpPackets.SetSize(_handle, size), SftpType.Status);

    /// <inheritdoc/>
    public void End(BlockException reason) => Connection.End(reason);

    /// <inheritdoc/>
    public ValueTask CloseAsync() => Connection.CloseAsync();

    private ValueTask<SftpReply> PartAsync(long offset, ReadOnlyMemory<byte> data) => Connection.RequestAsync(
        new SftpRequest(SftpPackets.Write(_handle, offset, data.Length), SftpType.Status) { Payload = data },
        CancellationToken.None);

    private static byte[] HandleOf(in SftpReply reply)
    {
        ReadOnlySpan<byte> handle = new SftpReader(reply.Body).Text();
        return handle.Length is > 0 and <= SftpLayout.MaxHandle
            ? handle.ToArray()
            : throw SftpErrors.Protocol("a handle is too long or empty", $"{handle.Length} bytes", "1 to 256");
    }

    private static async Task<bool> ExistsAsync(SftpConnection connection, string path)
    {
        SftpReply reply = await connection.RequestAsync(
            SftpPackets.About(SftpType.Stat, System.Text.Encoding.UTF8.GetBytes(path)), SftpType.Attrs)
            .ConfigureAwait(false);
        if (reply is { Outcome: ReplyOutcome.Refused, Status: SftpStatus.NoSuchFile })
        {
            return false;
        }

        await ThrowIfNotDoneAsync(connection, "cannot look for the file", reply).ConfigureAwait(false);
        return true;
    }

    private static async Task ThrowIfNotDoneAsync(SftpConnection connection, string operation, SftpReply reply)
    {
        if (reply.Outcome == ReplyOutcome.Refused)
        {
            throw SftpErrors.Refused(operation, reply);
        }

        if (!reply.IsOk)
        {
            throw await connection.Ended.ConfigureAwait(false);
        }
    }
}
