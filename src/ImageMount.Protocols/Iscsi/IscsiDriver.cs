using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>A logical unit of an iSCSI target: libiscsi, loaded when it is needed.</summary>
public sealed class IscsiDriver : BlockDriver<IscsiOptions>
{
    /// <inheritdoc/>
    public override string Name => "iscsi";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override string Summary => "A disk or CD of an iSCSI target.";

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => ["iscsi", "iser"];

    /// <inheritdoc/>
    public override OptionMap ParseUri(string uri) => IscsiUri.Parse(uri);

    /// <inheritdoc/>
    public override string? Locate(object options) => IscsiUri.Format((IscsiOptions)options);

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, IscsiOptions options, CancellationToken cancellationToken)
    {
        IscsiSettings settings = IscsiSettings.Find(options, context.Flags.Secrets);
        if (!IscsiLibrary.IsAvailable)
        {
            throw IscsiErrors.NoLibrary();
        }

        var policy = new LinkPolicy
        {
            ReconnectDelay = TimeSpan.FromSeconds(options.ReconnectDelay),
            OpenTimeout = TimeSpan.FromSeconds(options.OpenTimeout),
            Timeout = TimeSpan.FromSeconds(settings.Timeout),
            TryTimeout = TimeSpan.FromSeconds(settings.Timeout == 0 ? 60 : settings.Timeout),
        };
        return await IscsiDevice.OpenAsync(
            options, new IscsiConnector(settings, policy.Clock), policy, context.Flags, context.Warn, cancellationToken)
            .ConfigureAwait(false);
    }
}
