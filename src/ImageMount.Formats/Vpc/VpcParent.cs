using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// Finds the parent of a differencing disk: by the relative path first, then by its name beside the child, then where
/// absolute paths say. What is found must have the unique id that the child remembers.
/// </summary>
internal static class VpcParent
{
    /// <summary>Opens it; null when the user wants none.</summary>
    public static async ValueTask<BlockNode?> OpenAsync(
        OpenContext context, VpcHeader header, CancellationToken cancellationToken)
    {
        List<string> places = await PlacesAsync(context.File, header, cancellationToken).ConfigureAwait(false);
        if (context.HasChildOptions("backing"))
        {
            BlockNode? given = await context.OpenChildAsync(
                "backing", places.FirstOrDefault(), "vpc", writable: false, cancellationToken).ConfigureAwait(false);
            if (given is not null)
            {
                Check(context, header, given);
            }

            return given;
        }

        if (places.Count == 0)
        {
            throw new BlockException(
                BlockErrorKind.NotFound, "the image needs its parent, and does not say where it is")
            {
                Hint = "Name it with backing.file.filename=…",
            };
        }

        if (context.Flags.NoBacking)
        {
            return MissingParent.Create(places[0]);
        }

        BlockException? first = null;
        foreach (string place in places)
        {
            try
            {
                BlockNode? parent = await context.OpenChildAsync(
                    "backing", place, "vpc", writable: false, cancellationToken).ConfigureAwait(false);
                if (parent is not null)
                {
                    Check(context, header, parent);
                }

                return parent;
            }
            catch (BlockException e) when (
                e.Kind is BlockErrorKind.NotFound or BlockErrorKind.PermissionDenied or BlockErrorKind.InvalidArgument)
            {
                first ??= e; // There may be another place.
            }
        }

        throw first is { Kind: BlockErrorKind.NotFound, InnerException: not BlockException }
            ? ReferredFile.Missing(context, "backing", places[0], first) : first!;
    }

    /// <summary>When the parent was last changed as far as can be told, seconds since 2000.</summary>
    public static uint TimestampOf(BlockNode parent) =>
        HostTimestamp(parent) ?? ((IVpcDisk)parent.Device).Footer.Timestamp;

    /// <summary>A path as Windows writes it, for this host.</summary>
    public static string FromWindows(string path) => path.Replace('\\', '/');

    private static void Check(OpenContext context, VpcHeader header, BlockNode parent)
    {
        if (parent.Device is not IVpcDisk { Footer: { } footer })
        {
            context.Warn($"the parent '{parent.Name}' is not a VHD image, so nobody knows whether it is the right one");
            return;
        }

        if (footer.UniqueId != header.ParentId)
        {
            if (!context.HasChildOptions("backing"))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidData, $"'{parent.Name}' is not the parent that this disk was made on")
                {
                    Found = footer.UniqueId.ToString("B"),
                    Expected = header.ParentId.ToString("B"),
                    Hint = "To use it all the same, name it yourself: backing.file.filename=…",
                };
            }

            context.Warn(
                $"the parent '{parent.Name}' has the id {footer.UniqueId:B}, not {header.ParentId:B}: "
                + "what is read may be wrong");
            return;
        }

        // File systems keep two seconds at worst. Some programs remember the footer's time, most the file's.
        if (header.ParentTimestamp != 0 && !IsNear(header.ParentTimestamp, footer.Timestamp)
            && HostTimestamp(parent) is { } changed && changed > header.ParentTimestamp
            && !IsNear(header.ParentTimestamp, changed))
        {
            context.Warn($"the parent '{parent.Name}' was changed, or copied, after this disk was made on it");
        }
    }

    private static bool IsNear(uint one, uint other) => Math.Abs((long)one - other) <= 2;

    private static uint? HostTimestamp(BlockNode parent)
    {
        BlockNode? file = parent.Children.FirstOrDefault(child => child.Role == "file").Node;
        if (file is null || !file.TryGetHostFile(out HostFileRegion region))
        {
            return null;
        }

        try
        {
            double seconds = (File.GetLastWriteTimeUtc(region.Handle) - VpcLayout.Epoch).TotalSeconds;
            return (uint)Math.Clamp(seconds, 0, uint.MaxValue);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // A file without a time: nothing to compare.
        }
    }

    /// <summary>Places to look, best first, each once.</summary>
    private static async ValueTask<List<string>> PlacesAsync(
        BlockNode file, VpcHeader header, CancellationToken cancellationToken)
    {
        string? relative = await ReadAsync(file, header, VpcPlatform.RelativePath, cancellationToken)
            .ConfigureAwait(false);
        string? absolute = await ReadAsync(file, header, VpcPlatform.AbsolutePath, cancellationToken)
            .ConfigureAwait(false);
        string? url = await ReadAsync(file, header, VpcPlatform.FileUrl, cancellationToken).ConfigureAwait(false);
        string? path = url is not null && Uri.TryCreate(url, UriKind.Absolute, out Uri? uri) && uri.IsFile
            ? Uri.UnescapeDataString(uri.AbsolutePath) : null;
        string name = FromWindows(header.ParentName);
        string?[] candidates =
        [
            relative, NameOf(name), NameOf(absolute), path is null ? null : NameOf(path), path, absolute, name,
        ];
        var places = new List<string>();
        foreach (string? candidate in candidates)
        {
            if (!string.IsNullOrEmpty(candidate) && !candidate.Contains('\0', StringComparison.Ordinal)
                && !IsWindowsOnly(candidate) && !places.Contains(candidate))
            {
                places.Add(candidate);
            }
        }

        return places;
    }

    /// <summary>Drive letters and network shares mean nothing here; what is beside the image may be meant.</summary>
    private static bool IsWindowsOnly(string path) =>
        path.StartsWith("//", StringComparison.Ordinal)
        || (path.Length > 1 && path[1] == ':' && char.IsAsciiLetter(path[0]));

    private static string? NameOf(string? path) => path?[(path.LastIndexOfAny(['/', ':']) + 1)..];

    private static async ValueTask<string?> ReadAsync(
        BlockNode file, VpcHeader header, uint platform, CancellationToken cancellationToken)
    {
        VpcLocator locator = header.Locators.FirstOrDefault(locator => locator.Platform == platform);
        if (locator.Length == 0 || locator.Offset > file.Length - locator.Length)
        {
            return null; // Not there, or it leads out of the file: there are other ways to find the parent.
        }

        using BufferLease bytes = BufferPool.Shared.Rent(locator.Length);
        await file.ReadAsync(locator.Offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        Encoding encoding = platform == VpcPlatform.FileUrl ? Encoding.UTF8 : Encoding.Unicode;
        string text = encoding.GetString(bytes.Span).TrimEnd('\0');
        return platform == VpcPlatform.FileUrl ? text : FromWindows(text);
    }
}
