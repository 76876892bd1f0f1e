using System.Globalization;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>What a reference in an image turned out to be.</summary>
internal enum ReferenceKind
{
    /// <summary>A path on this host.</summary>
    Path,

    /// <summary>A URI or an older "scheme:…" form.</summary>
    Uri,

    /// <summary>Options as "json:{…}".</summary>
    Json,
}

/// <summary>
/// A reference seen from the image that holds it: an absolute or working-directory path, a URI, or JSON.
/// </summary>
internal readonly record struct Reference(ReferenceKind Kind, string Text);

/// <summary>
/// What an image's reference to another file means: relative to the image's own place; and whether an image may name
/// it. An image from a stranger must not make us open whatever it likes, so references stay inside the directory tree
/// of the image that the user named, unless the user allows more.
/// </summary>
internal static class References
{
    private const string AllowHint =
        "If you trust the image, allow it with --allow-external, or name the file yourself: {0}.file.filename=…";

    /// <summary>The path or URI that a reference means.</summary>
    /// <param name="reference">As written in the image.</param>
    /// <param name="location">Path or URI of the image, or null when it has none.</param>
    public static Reference Resolve(string reference, string? location)
    {
        Check(reference);
        if (reference.StartsWith(SourceParser.JsonPrefix, StringComparison.Ordinal))
        {
            return new Reference(ReferenceKind.Json, reference);
        }

        string? scheme = SourceParser.SchemeOf(reference);
        string path = scheme == "file" ? SourceParser.StripFilePrefix(reference) : reference;
        if (path.StartsWith('/'))
        {
            return new Reference(ReferenceKind.Path, path);
        }

        bool besideUri = location is not null && IsUri(location);
        if (scheme is not null && scheme != "file"
            && (location is null || besideUri || !System.IO.File.Exists(Join(location, path))))
        {
            return new Reference(ReferenceKind.Uri, path);
        }

        if (location is null || path.Length == 0)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument,
                $"the image refers to '{Shorten(reference)}', and there is no folder to look for it in");
        }

        if (!besideUri)
        {
            return new Reference(ReferenceKind.Path, Join(location, path));
        }

        string escaped = string.Join('/', path.Split('/').Select(Uri.EscapeDataString));
        return new Reference(ReferenceKind.Uri, new Uri(new Uri(location), escaped).AbsoluteUri);
    }

    /// <summary>True when a reference means a file of this host that is there.</summary>
    public static bool Exists(string reference, string? location)
    {
        if (location is null || IsUri(location))
        {
            return false;
        }

        Reference target = Resolve(reference, location);
        return target.Kind == ReferenceKind.Path && System.IO.File.Exists(target.Text);
    }

    /// <summary>Refuses a resolved reference that leaves the tree around <paramref name="root"/>.</summary>
    /// <param name="reference">Result of <see cref="Resolve"/>.</param>
    /// <param name="root">Path or URI of the image that the user named.</param>
    /// <param name="role">Role of the child, for the hint.</param>
    public static void CheckInside(Reference reference, string? root, string role)
    {
        if (WhyOutside(reference, root) is { } why)
        {
            throw new BlockException(
                BlockErrorKind.PermissionDenied,
                $"the image refers to '{Shorten(reference.Text)}' as its {role}, {why}")
            {
                Hint = string.Format(CultureInfo.InvariantCulture, AllowHint, role),
            };
        }
    }

    /// <summary>Makes every relative "filename" of a JSON reference relative to the image that holds it.</summary>
    public static void Rebase(OptionMap map, string? location)
    {
        var work = new Stack<OptionMap>();
        work.Push(map);
        while (work.TryPop(out OptionMap? group))
        {
            foreach (string key in group.Keys)
            {
                if (group.GetMap(key) is { } inner)
                {
                    work.Push(inner);
                }
                else if (key == "filename" && group.Get(key) is { Length: > 0 } name)
                {
                    group.Set(key, Resolve(name, location).Text);
                }
            }
        }
    }

    /// <summary>True when a location is a URI and not a path.</summary>
    public static bool IsUri(string location) =>
        SourceParser.SchemeOf(location) is not null && location.Contains("://", StringComparison.Ordinal);

    /// <summary>A path that cannot be taken for a URI.</summary>
    public static string AsPath(string path) => SourceParser.SchemeOf(path) is null ? path : "./" + path;

    /// <summary>A text for a message: without secrets, control characters made visible, the end cut off.</summary>
    public static string Shorten(string text)
    {
        const int Longest = 200;
        text = ShownSource.Of(text);
        var shown = new StringBuilder();
        foreach (char c in text.AsSpan(0, Math.Min(text.Length, Longest)))
        {
            shown.Append(char.IsControl(c) ? '\uFFFD' : c);
        }

        return text.Length > Longest ? shown.Append('…').ToString() : shown.ToString();
    }

    private static string? WhyOutside(Reference reference, string? root)
    {
        bool besideUri = root is not null && IsUri(root);
        switch (reference.Kind)
        {
            case ReferenceKind.Json:
                return "and images are not trusted to give options";
            case ReferenceKind.Uri when besideUri:
                string folder = new Uri(new Uri(root!), ".").AbsoluteUri;
                return reference.Text.StartsWith(folder, StringComparison.Ordinal)
                    ? null : $"which is outside '{folder}'";
            case ReferenceKind.Uri:
                return "which is not a file on this host";
            default:
                return root is null || besideUri
                    ? "which is a file on this host" : WhyPathOutside(reference.Text, root);
        }
    }

    private static string? WhyPathOutside(string target, string root)
    {
        string path = HostPath.Resolve(target);
        if (HostPath.IsSpecial(path))
        {
            return "which is a device or belongs to the kernel";
        }

        string tree = HostPath.Resolve(HostPath.FolderOf(root));
        return HostPath.IsInside(path, tree) ? null : $"which is outside '{tree}'";
    }

    private static string Join(string location, string path)
    {
        string folder = HostPath.FolderOf(location);
        return AsPath(folder == "." ? path : Path.Join(folder, path));
    }

    private static void Check(string reference)
    {
        int bytes = Encoding.UTF8.GetByteCount(reference);
        if (bytes > GraphLimits.MaxReferenceLength)
        {
            throw BlockException.Limit(
                "the name of a file that the image refers to is too long", bytes, GraphLimits.MaxReferenceLength);
        }

        if (reference.Length == 0 || reference.Contains('\0'))
        {
            throw BlockException.Invalid(
                "the image refers to a file with an impossible name", null, $"'{Shorten(reference)}'");
        }
    }
}
