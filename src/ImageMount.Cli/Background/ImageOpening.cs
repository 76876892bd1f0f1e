using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Filters.RemoteCache;

namespace ImageMount.Cli.Background;

/// <summary>From a request to an open graph.</summary>
public static class ImageOpening
{
    /// <summary>Opens. Failures are <see cref="Core.Block.BlockException"/>.</summary>
    public static async ValueTask<Graph> OpenAsync(
        ImageRequest request, OpenFlags flags, CancellationToken cancellationToken = default)
    {
        var progress = new OpeningProgress(Console.Error, TimeProvider.System);
        flags = flags with
        {
            ForceShare = request.ForceShare,
            Locking = request.Locking,
            AllowExternal = request.AllowExternal,
            Spool = request.Spool,
            RemoteLayer = request.RemoteCache is { } cache ? new RemoteCacheLayer(cache) : null,
            Progress = progress,
        };
        try
        {
            return await new GraphOpener(Drivers.Registry).OpenAsync(Describe(request), flags, cancellationToken)
                .ConfigureAwait(false);
        }
        finally
        {
            progress.Stop();
        }
    }

    /// <summary>The options that describe the node to open.</summary>
    internal static OptionMap Describe(ImageRequest request)
    {
        var parser = new SourceParser(Drivers.Registry);
        OptionMap image = request.IsOptions
            ? parser.ParseImageOptions(request.Source)
            : parser.Parse(request.Source);
        if (request.Format is not null)
        {
            image.Set("driver", request.Format);
        }

        if (request.FatUnsupported is not null || request.FatRefresh)
        {
            OptionMap folder = FindFolder(image);
            SetIfGiven(folder, "unsupported", request.FatUnsupported);
            SetIfGiven(folder, "refresh", request.FatRefresh ? "on" : null);
        }

        if (request.Offset is not null || request.Size is not null)
        {
            image = SourceParser.Wrap(image, "window");
            SetIfGiven(image, "offset", request.Offset);
            SetIfGiven(image, "size", request.Size);
        }

        return request.Overlay ? SourceParser.Wrap(image, "overlay") : image;
    }

    /// <summary>The options of the folder that is shown as a FAT disk; a mistake of the user when there is none.</summary>
    private static OptionMap FindFolder(OptionMap image)
    {
        OptionMap? at = image;
        while (at is not null && at.Get("driver") != "vvfat")
        {
            at = at.GetMap("file");
        }

        return at ?? throw new Core.Block.BlockException(
            Core.Block.BlockErrorKind.InvalidArgument,
            "--fat-unsupported and --fat-refresh are for folders shown as disks")
        {
            Expected = "fat:DIR, or driver=vvfat",
        };
    }

    private static void SetIfGiven(OptionMap map, string key, string? value)
    {
        if (value is not null)
        {
            map.Set(key, value);
        }
    }
}
