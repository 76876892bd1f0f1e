using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>A file on a server that is reached by SSH: OpenSSH's client, and SFTP over it.</summary>
public sealed class SshDriver : BlockDriver<SshOptions>
{
    private static readonly TimeSpan MakeLimit = TimeSpan.FromSeconds(60);

    /// <inheritdoc/>
    public override string Name => "ssh";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override string Summary => "A file on an SSH server.";

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => ["ssh"];

    /// <inheritdoc/>
    public override OptionMap ParseUri(string uri) => SshUri.Parse(uri);

    /// <inheritdoc/>
    public override string? Locate(object options) => SshUri.Format((SshOptions)options);

    /// <inheritdoc/>
    public override string? RemoteKey(object options) => SshUri.Format((SshOptions)options);

    /// <inheritdoc/>
    public override async ValueTask<bool> CreateFileAsync(
        object options, SecretStore secrets, CancellationToken cancellationToken)
    {
        bool isMade = false;
        await WithConnectionAsync(
            (SshOptions)options, secrets,
            async (connection, path) => isMade = await SftpFile.CreateAsync(connection, path).ConfigureAwait(false),
            cancellationToken).ConfigureAwait(false);
        return isMade;
    }

    /// <inheritdoc/>
    public override ValueTask DeleteFileAsync(
        object options, SecretStore secrets, CancellationToken cancellationToken) =>
        WithConnectionAsync((SshOptions)options, secrets, SftpFile.RemoveAsync, cancellationToken);

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, SshOptions options, CancellationToken cancellationToken)
    {
        var connector = new SshConnector(options, context.Flags.Secrets);
        if (connector.TrustsAnybody)
        {
            context.Warn($"the host key of {connector.Peer} is not checked: whoever answers is believed");
        }

        return await SshDevice.OpenAsync(connector, options, context.Flags, context.Warn, cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>How patient the options are.</summary>
    internal static LinkPolicy PolicyOf(SshOptions options) => new()
    {
        ReconnectDelay = TimeSpan.FromSeconds(options.ReconnectDelay),
        Timeout = TimeSpan.FromSeconds(options.Timeout),
        TryTimeout = TimeSpan.FromSeconds(options.Timeout == 0 ? 60 : Math.Max(options.Timeout, 10)),
    };

    private static async ValueTask WithConnectionAsync(
        SshOptions options, SecretStore secrets, Func<SftpConnection, string, Task> work,
        CancellationToken cancellationToken)
    {
        var connector = new SshConnector(options, secrets);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(MakeLimit);
        try
        {
            SftpConnection connection = await connector.ConnectAsync(limit.Token).ConfigureAwait(false);
            var late = new BlockException(BlockErrorKind.TimedOut, $"{connector.Peer} did not answer in time");
            using (limit.Token.UnsafeRegister(_ => connection.End(late), null))
            {
                try
                {
                    await work(connection, connector.Path).ConfigureAwait(false);
                }
                finally
                {
                    await connection.CloseAsync().ConfigureAwait(false);
                }
            }
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new BlockException(BlockErrorKind.TimedOut, $"{connector.Peer} did not answer in time", e);
        }
    }
}
