using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>Where in the chain a driver stands: request → filter → format → protocol.</summary>
public enum DriverKind
{
    /// <summary>Reaches bytes outside the program: a file, a socket. Has no "file" child.</summary>
    Protocol,

    /// <summary>Understands an image format in its "file" child.</summary>
    Format,

    /// <summary>Shows its "file" child changed or watched.</summary>
    Filter,
}

/// <summary>
/// A driver: what it is called, how it recognises its images, and how it opens them. One instance per process, without
/// state; listed in the composition root (Cli/Drivers.cs).
/// </summary>
public abstract class BlockDriver
{
    /// <summary>Name as in QEMU ("qcow2").</summary>
    public abstract string Name { get; }

    /// <summary>Where it stands.</summary>
    public abstract DriverKind Kind { get; }

    /// <summary>One sentence for `--help` and docs.</summary>
    public abstract string Summary { get; }

    /// <summary>The record that declares the options.</summary>
    public abstract Type OptionsType { get; }

    /// <summary>URI schemes that select this protocol driver, in lower case.</summary>
    public virtual IReadOnlyList<string> UriSchemes => [];

    /// <summary>Turns a URI (or an older "scheme:…" form) with one of the schemes into options.</summary>
    public virtual Options.OptionMap ParseUri(string uri) =>
        throw new BlockException(BlockErrorKind.InvalidArgument, $"driver '{Name}' takes no URI");

    /// <summary>
    /// How sure the driver is that these are its images: 0 no … 100 certain. <paramref name="head"/> is the first
    /// <see cref="ProbeInput.HeadSize"/> bytes, or fewer when the file is shorter. Must not throw.
    /// </summary>
    public virtual int Probe(in ProbeInput input) => 0;

    /// <summary>
    /// False for a driver that never writes to its "file" child; the graph then opens that for reading only.
    /// </summary>
    public virtual bool WritesFile => true;

    /// <summary>
    /// True when the content of its disk is usually another image, which the graph then looks for (compressed files,
    /// archives, encrypted containers): recognised by its content, such a driver is opened and what it shows is probed
    /// again. <see cref="Probe"/> must be strict then: a wrapper that sees itself in a plain disk hides that disk.
    /// </summary>
    public virtual bool IsWrapper => false;

    /// <summary>
    /// Protocols: true when what it shows is a disk by its nature, made by this program from other things: it is not
    /// probed for an image format unless one is named, because the bytes are somebody else's files, which must not be
    /// taken for an image.
    /// </summary>
    public virtual bool ShowsPlainDisk => false;

    /// <summary>
    /// Protocols: path or URI of the bytes, without secrets: what messages call the node, and what relative references
    /// of an image stored there start from. Null: the option "filename" if there is one, else the driver's name.
    /// </summary>
    public virtual string? Locate(object options) => null;

    /// <summary>
    /// Protocols: the name of bytes that a server has, without passwords, the same for the same bytes and another for
    /// others (user and query belong to it); null for what is on this host. Not to be shown: queries may be secret. Known
    /// before anything is opened, so that a <see cref="IRemoteLayer"/> can stand in for a server that is away.
    /// </summary>
    public virtual string? RemoteKey(object options) => null;

    /// <summary>Formats: what makes images; null for a format that is only read.</summary>
    public virtual ImageCreator? Creator => null;

    /// <summary>
    /// Protocols: makes the file that <paramref name="options"/> (an instance of <see cref="OptionsType"/>) name, empty.
    /// False: it was there already, and was not touched.
    /// </summary>
    public virtual ValueTask<bool> CreateFileAsync(object options, CancellationToken cancellationToken) =>
        throw new BlockException(BlockErrorKind.NotSupported, $"driver '{Name}' cannot make files");

    /// <summary>The same for protocols that may need secrets to reach the file.</summary>
    public virtual ValueTask<bool> CreateFileAsync(
        object options, Secrets.SecretStore secrets, CancellationToken cancellationToken) =>
        CreateFileAsync(options, cancellationToken);

    /// <summary>Protocols: removes a file that was made by <see cref="CreateFileAsync(object, CancellationToken)"/>.</summary>
    public virtual ValueTask DeleteFileAsync(object options, CancellationToken cancellationToken) =>
        throw new BlockException(BlockErrorKind.NotSupported, $"driver '{Name}' cannot remove files");

    /// <summary>The same for protocols that may need secrets to reach the file.</summary>
    public virtual ValueTask DeleteFileAsync(
        object options, Secrets.SecretStore secrets, CancellationToken cancellationToken) =>
        DeleteFileAsync(options, cancellationToken);

    /// <summary>Opens a device. <paramref name="options"/> is an instance of <see cref="OptionsType"/>.</summary>
    public abstract ValueTask<BlockDevice> OpenAsync(
        OpenContext context, object options, CancellationToken cancellationToken);
}

/// <summary>A driver with its options typed.</summary>
public abstract class BlockDriver<TOptions> : BlockDriver
    where TOptions : class, new()
{
    /// <inheritdoc/>
    public sealed override Type OptionsType => typeof(TOptions);

    /// <inheritdoc/>
    public sealed override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, object options, CancellationToken cancellationToken) =>
        OpenAsync(context, (TOptions)options, cancellationToken);

    /// <summary>
    /// Opens a device. Failures are <see cref="BlockException"/>; what was opened on the way is closed by the graph.
    /// </summary>
    protected abstract ValueTask<BlockDevice> OpenAsync(
        OpenContext context, TOptions options, CancellationToken cancellationToken);
}

/// <summary>What a format driver may look at to recognise its images.</summary>
/// <param name="head">First bytes of the file.</param>
/// <param name="tail">Last bytes of the file.</param>
/// <param name="length">Its length.</param>
/// <param name="fileName">Its name without folder.</param>
/// <param name="exists">Whether there is a file of a name beside it; null where nobody knows.</param>
public readonly ref struct ProbeInput(
    ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail, long length, string fileName, Func<string, bool>? exists = null)
{
    /// <summary>Bytes of the head that are read for probing.</summary>
    public const int HeadSize = 4096;

    /// <summary>Bytes of the tail that are read for probing.</summary>
    public const int TailSize = 512;

    /// <summary>First bytes of the file.</summary>
    public ReadOnlySpan<byte> Head { get; } = head;

    /// <summary>Last bytes of the file, for formats with a trailer.</summary>
    public ReadOnlySpan<byte> Tail { get; } = tail;

    /// <summary>Length of the file in bytes.</summary>
    public long Length { get; } = length;

    /// <summary>File name without folder; may be empty.</summary>
    public string FileName { get; } = fileName;

    /// <summary>True when there is a file of this name beside it, as far as that is known.</summary>
    public bool HasSibling(string name) => exists?.Invoke(name) == true;
}
