using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>
/// How images are to be opened; the same for a whole graph, except that parents are always read-only.
/// </summary>
public sealed record OpenFlags
{
    /// <summary>Guest data may be written.</summary>
    public bool Writable { get; init; }

    /// <summary>Bypass the host's page cache (O_DIRECT).</summary>
    public bool Direct { get; init; }

    /// <summary>Every write is durable when it completes.</summary>
    public bool WriteThrough { get; init; }

    /// <summary>Flushes are ignored (cache=unsafe).</summary>
    public bool IgnoreFlush { get; init; }

    /// <summary>Read even though somebody else holds the image for writing.</summary>
    public bool ForceShare { get; init; }

    /// <summary>Take no locks at all / require them / as the host can.</summary>
    public LockingMode Locking { get; init; } = LockingMode.Auto;

    /// <summary>Discards free space on the host.</summary>
    public bool Discard { get; init; } = true;

    /// <summary>Images may refer to files outside their own directory tree, URIs and devices.</summary>
    public bool AllowExternal { get; init; }

    /// <summary>Do not open parents; ranges that they define are an error to read.</summary>
    public bool NoBacking { get; init; }

    /// <summary>
    /// Told how far an opening is that takes long because a file has to be read through; may be null.
    /// </summary>
    public IProgress<OpenProgress>? Progress { get; init; }

    /// <summary>Files of servers that send no parts of them are read to a temporary file first.</summary>
    public bool Spool { get; init; }

    /// <summary>
    /// What is put between servers and the images on them (a cache); null for nothing. Owned by whoever opens the graph.
    /// </summary>
    public IRemoteLayer? RemoteLayer { get; init; }

    /// <summary>Passphrases and keys that drivers may ask for; owned by whoever opens the graph.</summary>
    public Secrets.SecretStore Secrets { get; init; } = new();

    /// <summary>
    /// An encrypted image may be opened without its passphrase, to look at its metadata: reading its payload fails then.
    /// </summary>
    public bool AllowLocked { get; init; }

    /// <summary>True when an encrypted image stays locked, because nobody gave or can be asked for a passphrase.</summary>
    /// <param name="secretId">Id that options name, or null.</param>
    public bool StaysLocked(string? secretId) => AllowLocked && secretId is null && Secrets.IsEmpty;
}

/// <summary>How far a driver is that has to read a file through before it can open it.</summary>
/// <param name="Node">What messages call the node.</param>
/// <param name="What">What is being done: "indexing".</param>
/// <param name="Done">Bytes of the file that are done.</param>
/// <param name="Total">Bytes of the file.</param>
public readonly record struct OpenProgress(string Node, string What, long Done, long Total);

/// <summary>Whether image files are locked against other programs.</summary>
public enum LockingMode
{
    /// <summary>OFD locks where the host has them, else POSIX locks with a warning.</summary>
    Auto,

    /// <summary>Locks are required.</summary>
    On,

    /// <summary>No locks.</summary>
    Off,
}

/// <summary>Limits that keep a hostile image from using up the machine.</summary>
public static class GraphLimits
{
    /// <summary>Longest chain of nodes.</summary>
    public const int MaxDepth = 10;

    /// <summary>Most nodes of one graph, those of <see cref="MaxExtents"/> not counted.</summary>
    public const int MaxNodes = 256;

    /// <summary>
    /// Most files of one graph that are mere parts of a disk (<see cref="OpenContext.OpenExtentAsync"/>). Each is one
    /// node and one open file: 2 TiB in extents of 2 GiB, and three parents of that size.
    /// </summary>
    public const int MaxExtents = 4096;

    /// <summary>Longest reference (path or URI) read from an image, bytes.</summary>
    public const int MaxReferenceLength = 4096;
}

/// <summary>
/// What a driver may ask for while it opens: its children, and a place for warnings. Implemented by the graph, which
/// keeps account of depth, number and loops, resolves relative references against the referring image, refuses what
/// leaves its directory tree unless allowed, and closes everything that was opened when opening fails.
/// </summary>
public abstract class OpenContext
{
    /// <summary>How to open. For a parent, <see cref="OpenFlags.Writable"/> is already false.</summary>
    public abstract OpenFlags Flags { get; }

    /// <summary>What messages call the node that is being opened.</summary>
    public abstract string NodeName { get; }

    /// <summary>
    /// The "file" child of a format or filter, opened before the driver is called. An error for protocols.
    /// </summary>
    public abstract BlockNode File { get; }

    /// <summary>
    /// Opens a child that the image refers to. If the user gave options under <paramref name="role"/>, those win over
    /// the reference; if the user gave an empty reference on purpose (<c>backing=</c> or JSON null) the result is null.
    /// </summary>
    /// <param name="role">"backing", "data-file", "extents.0".</param>
    /// <param name="reference">Path or URI as written in the image, or null when only options can name it.</param>
    /// <param name="driver">Format as written in the image; null to probe; "raw" for flat data.</param>
    /// <param name="writable">False for parents; true when the child is written together with this image.</param>
    /// <param name="cancellationToken">Stops opening.</param>
    public abstract ValueTask<BlockNode?> OpenChildAsync(
        string role, string? reference, string? driver, bool writable, CancellationToken cancellationToken);

    /// <summary>
    /// Opens a file that is a part of the disk as plain bytes: like <see cref="OpenChildAsync"/> with "raw", but the
    /// file itself, one node instead of two, because a disk may have very many of them.
    /// </summary>
    public virtual ValueTask<BlockNode?> OpenExtentAsync(
        string role, string? reference, bool writable, CancellationToken cancellationToken) =>
        OpenChildAsync(role, reference, "raw", writable, cancellationToken);

    /// <summary>True when the user gave options (or an explicit "none") for a child.</summary>
    public abstract bool HasChildOptions(string role);

    /// <summary>Name of the image's file without folder; may be empty.</summary>
    public virtual string FileName => Path.GetFileName(NodeName);

    /// <summary>
    /// True when there is a file under a name relative to the image. False where that cannot be found out without opening
    /// it, as behind a URI.
    /// </summary>
    public virtual bool Exists(string reference) => false;

    /// <summary>
    /// The path on this host that a reference resolves to, for `info`; the reference itself for URIs.
    /// </summary>
    public abstract string ResolveReference(string reference);

    /// <summary>Tells the user something that is not an error, once.</summary>
    public abstract void Warn(string message);
}
