using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.Protocols.Remote;
using ImageMount.Protocols.Remote.Tls;

namespace ImageMount.Protocols.Nbd;

/// <summary>An export of an NBD server: TCP or unix socket, TLS, any style of the protocol.</summary>
public sealed class NbdDriver : BlockDriver<NbdOptions>
{
    /// <inheritdoc/>
    public override string Name => "nbd";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override string Summary => "An export of an NBD server.";

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => ["nbd", "nbd+tcp", "nbd+unix", "nbds", "nbds+tcp", "nbds+unix"];

    /// <inheritdoc/>
    public override OptionMap ParseUri(string uri) => NbdUri.Parse(uri);

    /// <inheritdoc/>
    public override string? Locate(object options) => NbdUri.Format((NbdOptions)options);

    /// <inheritdoc/>
    public override string? RemoteKey(object options) => NbdUri.Format((NbdOptions)options);

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, NbdOptions options, CancellationToken cancellationToken)
    {
        RemoteAddress address = NbdUri.AddressOf(options);
        var connector = new NbdConnector(
            address, options.Export, options.DirtyBitmap ?? NbdLayout.AllocationContext, MakeTls(options, address, context));
        var policy = new LinkPolicy
        {
            ReconnectDelay = TimeSpan.FromSeconds(options.ReconnectDelay),
            OpenTimeout = TimeSpan.FromSeconds(options.OpenTimeout),
            Timeout = TimeSpan.FromSeconds(options.Timeout),
            TryTimeout = TimeSpan.FromSeconds(options.Timeout == 0 ? 60 : options.Timeout),
        };
        return await NbdDevice.OpenAsync(connector, policy, options, context.Flags, cancellationToken).ConfigureAwait(false);
    }

    private static TlsClient? MakeTls(NbdOptions options, RemoteAddress address, OpenContext context)
    {
        if (!NbdUri.UsesTls(options))
        {
            return options.TlsHostname is null ? null : throw new BlockException(
                BlockErrorKind.InvalidArgument, "'tls-hostname' is given without TLS");
        }

        int ways = (options.TlsCreds is null ? 0 : 1) + (options.TlsCertificates is null ? 0 : 1)
            + (options.TlsPskFile is null ? 0 : 1);
        if (ways > 1)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "only one of 'tls-creds', 'tls-certificates' and 'tls-psk-file' can be given");
        }

        TlsCredentials? credentials = options switch
        {
            { TlsCreds: { } id } => context.Flags.Secrets.GetTls(id),
            { TlsCertificates: { } folder } => new TlsX509Credentials { Id = "", Directory = folder },
            { TlsPskFile: { } file } => new TlsPskCredentials { Id = "", KeyFile = file },
            _ => null,
        };
        if (credentials is TlsPskCredentials psk && options.TlsUsername is { } user)
        {
            credentials = psk with { UserName = user };
        }

        string host = options.TlsHostname ?? (address.SocketPath is null ? address.Host : "localhost");
        return TlsClient.Create(credentials, host, context.Flags.Secrets);
    }
}
