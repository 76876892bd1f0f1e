using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Gluster;

/// <summary>A file in a GlusterFS volume, through libgfapi.</summary>
public sealed class GlusterDriver : BlockDriver<GlusterOptions>
{
    private static readonly TimeSpan MakeLimit = TimeSpan.FromSeconds(60);

    /// <inheritdoc/>
    public override string Name => "gluster";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Protocol;

    /// <inheritdoc/>
    public override string Summary => "A file in a GlusterFS volume.";

    /// <inheritdoc/>
    public override IReadOnlyList<string> UriSchemes => ["gluster", "gluster+tcp", "gluster+unix", "gluster+rdma"];

    /// <summary>Connections; replaced by tests.</summary>
    internal GlusterVolumes Volumes { get; init; } = GlusterVolumes.Shared;

    /// <summary>Source of time and patience; replaced by tests.</summary>
    internal Func<LinkPolicy, LinkPolicy> Adjust { get; init; } = policy => policy;

    /// <inheritdoc/>
    public override OptionMap ParseUri(string uri) => GlusterUri.Parse(uri);

    /// <inheritdoc/>
    public override string? Locate(object options) => GlusterUri.Format((GlusterOptions)options);

    /// <inheritdoc/>
    public override async ValueTask<bool> CreateFileAsync(object options, CancellationToken cancellationToken)
    {
        int errno = await CallAsync((GlusterOptions)options, (volume, path) => volume.TryCreate(path), cancellationToken)
            .ConfigureAwait(false);
        return errno switch
        {
            0 => true,
            Errno.EEXIST => false,
            _ => throw GlusterErrors.Refused(errno, "cannot make the file"),
        };
    }

    /// <inheritdoc/>
    public override async ValueTask DeleteFileAsync(object options, CancellationToken cancellationToken)
    {
        int errno = await CallAsync((GlusterOptions)options, (volume, path) => volume.TryRemove(path), cancellationToken)
            .ConfigureAwait(false);
        if (errno is not (0 or Errno.ENOENT))
        {
            throw GlusterErrors.Refused(errno, "cannot remove the file");
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, GlusterOptions options, CancellationToken cancellationToken)
    {
        GfapiTarget target = Check(options);
        LinkPolicy policy = Adjust(new LinkPolicy
        {
            ReconnectDelay = TimeSpan.FromSeconds(options.ReconnectDelay),
            Timeout = TimeSpan.FromSeconds(options.Timeout),
            TryTimeout = TimeSpan.FromSeconds(options.Timeout == 0 ? 60 : Math.Max(options.Timeout, 10)),
        });
        var connector = new GlusterConnector(Volumes, target, options.Path, policy, context.Warn);
        return await GlusterDevice.OpenAsync(connector, policy, options, context.Flags, cancellationToken)
            .ConfigureAwait(false);
    }

    private GfapiTarget Check(GlusterOptions options)
    {
        GfapiTarget target = GlusterUri.TargetOf(options);
        if (Volumes == GlusterVolumes.Shared)
        {
            GlusterHost.Check(target);
        }

        return target;
    }

    /// <summary>One call on the volume, which is bounded in time; the errno, positive.</summary>
    private async Task<int> CallAsync(
        GlusterOptions options, Func<IGfapiVolume, string, int> call, CancellationToken cancellationToken)
    {
        GfapiTarget target = Check(options);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(MakeLimit);
        try
        {
            GlusterVolume volume = await Volumes.AcquireAsync(target, limit.Token).ConfigureAwait(false);
            var thread = new GlusterThread("gluster call");
            Task<int> result = thread.CallAsync(() =>
            {
                try
                {
                    return -call(volume.Connection, options.Path);
                }
                finally
                {
                    Volumes.Release(volume);
                }
            });
            thread.Stop();
            return await result.WaitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new BlockException(BlockErrorKind.TimedOut, $"{GlusterUri.Peer(target)} did not answer in time", e);
        }
    }
}
