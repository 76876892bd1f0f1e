using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>Opens files of web servers, for reading. RFC 9110; parts by its section 14.</summary>
public abstract class HttpDriverBase : BlockDriver<HttpOptions>
{
    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => [Name];

    /// <inheritdoc/>
    public override OptionMap ParseUri(string uri)
    {
        HttpPlace.Parse(uri, Name);
        var options = new OptionMap();
        options.Set("url", uri);
        return options;
    }

    /// <inheritdoc/>
    public override string? Locate(object options) => HttpPlace.Parse(((HttpOptions)options).Url, Name).Place.Shown;

    /// <inheritdoc/>
    public override string? RemoteKey(object options)
    {
        var http = (HttpOptions)options;
        (HttpPlace place, RemoteUri parts) = HttpPlace.Parse(http.Url, Name);
        return $"{http.Username ?? parts.User}\n{place.Uri.AbsoluteUri}";
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, HttpOptions options, CancellationToken cancellationToken)
    {
        (HttpPlace place, RemoteUri parts) = HttpPlace.Parse(options.Url, Name);
        var settings = new HttpClientSettings(options, place, parts, context.Flags.Secrets);
        var timeout = TimeSpan.FromSeconds(options.Timeout);
        var policy = new LinkPolicy
        {
            Timeout = timeout,
            ReconnectDelay = TimeSpan.FromSeconds(options.ReconnectDelay),
            TryTimeout = timeout > TimeSpan.Zero ? timeout : new LinkPolicy().TryTimeout,
            Settle = TimeSpan.Zero, // Nothing is ever written.
        };
        var device = new HttpDevice(new HttpFile(place), settings, policy, options.ReadAhead);
        bool isKept = false;
        try
        {
            bool hasRanges = await device.OpenAsync(cancellationToken).ConfigureAwait(false);
            if (hasRanges && options.Spool is not true)
            {
                isKept = true;
                return device;
            }

            if (!hasRanges && !(options.Spool ?? context.Flags.Spool))
            {
                throw HttpSession.NoRanges(place);
            }

            return await device.SpoolAsync(hasRanges, context.Flags.Progress, context.Warn, cancellationToken)
                .ConfigureAwait(false);
        }
        finally
        {
            if (!isKept)
            {
                await device.CloseAsync().ConfigureAwait(false);
            }
        }
    }
}

/// <summary>http://…</summary>
public sealed class HttpDriver : HttpDriverBase
{
    /// <inheritdoc/>
    public override string Name => "http";

    /// <inheritdoc/>
    public override string Summary => "A file of a web server, for reading.";
}

/// <summary>https://…</summary>
public sealed class HttpsDriver : HttpDriverBase
{
    /// <inheritdoc/>
    public override string Name => "https";

    /// <inheritdoc/>
    public override string Summary => "A file of a web server, over TLS, for reading.";
}
