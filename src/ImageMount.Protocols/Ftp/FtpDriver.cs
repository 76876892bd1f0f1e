using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ftp;

/// <summary>Opens files of FTP servers, for reading.</summary>
public abstract class FtpDriverBase : BlockDriver<FtpOptions>
{
    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => [Name];

    /// <inheritdoc/>
    public override OptionMap ParseUri(string uri)
    {
        FtpTarget.Parse(uri, Name);
        var options = new OptionMap();
        options.Set("url", uri);
        return options;
    }

    /// <inheritdoc/>
    public override string? Locate(object options) => FtpTarget.Parse(((FtpOptions)options).Url, Name).Shown;

    /// <inheritdoc/>
    public override string? RemoteKey(object options)
    {
        // Paths start where a login leads, so the user belongs to the name.
        var ftp = (FtpOptions)options;
        RemoteUri parts = FtpTarget.Parse(ftp.Url, Name);
        return $"{ftp.Username ?? parts.User}\n{parts.Shown}";
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FtpOptions options, CancellationToken cancellationToken)
    {
        var target = new FtpTarget(options, Name, context.Flags.Secrets);
        var timeout = TimeSpan.FromSeconds(options.Timeout);
        var policy = new LinkPolicy
        {
            Timeout = timeout,
            ReconnectDelay = TimeSpan.FromSeconds(options.ReconnectDelay),
            TryTimeout = timeout > TimeSpan.Zero ? timeout : new LinkPolicy().TryTimeout,
            Settle = TimeSpan.Zero, // Nothing is ever written.
        };
        var device = new FtpDevice(target, policy, options);
        try
        {
            await device.OpenAsync(cancellationToken).ConfigureAwait(false);
            return device;
        }
        catch
        {
            await device.CloseAsync().ConfigureAwait(false);
            throw;
        }
    }
}

/// <summary>ftp://…</summary>
public sealed class FtpDriver : FtpDriverBase
{
    /// <inheritdoc/>
    public override string Name => "ftp";

    /// <inheritdoc/>
    public override string Summary => "A file of an FTP server, for reading.";
}

/// <summary>ftps://…</summary>
public sealed class FtpsDriver : FtpDriverBase
{
    /// <inheritdoc/>
    public override string Name => "ftps";

    /// <inheritdoc/>
    public override string Summary => "A file of an FTP server, over TLS, for reading.";
}
