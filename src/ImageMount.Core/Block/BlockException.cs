using System.Globalization;
using System.Text;

namespace ImageMount.Core.Block;

/// <summary>What kind of failure a <see cref="BlockException"/> is. Few on purpose: each maps to one errno and one exit path.</summary>
public enum BlockErrorKind
{
    /// <summary>An image, or a peer's reply, breaks its own format.</summary>
    InvalidData,

    /// <summary>An image needs a feature that this program does not have (the feature is named).</summary>
    NotSupported,

    /// <summary>An option, a source string or a request from the user is wrong.</summary>
    InvalidArgument,

    /// <summary>A file, host, export or snapshot does not exist.</summary>
    NotFound,

    /// <summary>The operating system or the peer refuses access.</summary>
    PermissionDenied,

    /// <summary>The node is open for reading only.</summary>
    ReadOnly,

    /// <summary>The image is locked by somebody else.</summary>
    InUse,

    /// <summary>A request lies outside the disk.</summary>
    OutOfRange,

    /// <summary>The host file system, the quota or the format's own limit is full.</summary>
    NoSpace,

    /// <summary>Something read from outside exceeds a limit of this program.</summary>
    LimitExceeded,

    /// <summary>The device below failed to read, write or flush.</summary>
    IoError,

    /// <summary>A peer did not answer in time.</summary>
    TimedOut,

    /// <summary>The caller cancelled the request.</summary>
    Cancelled,
}

/// <summary>
/// The only exception that bad input, a bad image, a bad peer or a failing disk can cause. The message says what failed;
/// the properties say where, what was found, what was expected and what the user can do. <see cref="BlockNode"/> stamps
/// node and offset on the way up, so a driver need not know its own name.
/// </summary>
public sealed class BlockException : Exception
{
    /// <summary>Creates an exception of a kind; the rest of the context is set by initialisers.</summary>
    public BlockException(BlockErrorKind kind, string what, Exception? inner = null)
        : base(what, inner) => Kind = kind;

    /// <summary>The kind of failure.</summary>
    public BlockErrorKind Kind { get; }

    /// <summary>The node (usually the file name of the image) on which it happened; null until stamped.</summary>
    public string? Node { get; private set; }

    /// <summary>Byte offset in that node, or null when the failure has no place.</summary>
    public long? Offset { get; set; }

    /// <summary>What was found, in the reader's terms ("0x00000007").</summary>
    public string? Found { get; init; }

    /// <summary>What was expected instead ("9…21").</summary>
    public string? Expected { get; init; }

    /// <summary>What the user can do about it, as a full sentence.</summary>
    public string? Hint { get; init; }

    /// <summary>The host's errno where the failure came from the operating system, else 0.</summary>
    public int Errno { get; init; }

    /// <summary>Records the innermost node and offset; later calls on the way up change nothing.</summary>
    public void Stamp(string node, long? offset)
    {
        if (Node is not null)
        {
            return;
        }

        Node = node;
        Offset ??= offset;
    }

    /// <summary>One line: node, what, where in hex, found and expected, and the hint as a second sentence.</summary>
    public string Describe()
    {
        var text = new StringBuilder();
        if (Node is not null)
        {
            text.Append(Node).Append(": ");
        }

        text.Append(Message);
        if (Offset is { } offset)
        {
            text.Append(CultureInfo.InvariantCulture, $" at 0x{offset:x}");
        }

        if (Found is not null || Expected is not null)
        {
            text.Append(" (");
            if (Found is not null)
            {
                text.Append("found ").Append(Found);
            }

            if (Expected is not null)
            {
                text.Append(Found is null ? "expected " : ", expected ").Append(Expected);
            }

            text.Append(')');
        }

        if (Hint is not null)
        {
            text.Append(". ").Append(Hint);
        }

        return text.ToString();
    }

    /// <summary>An image that breaks its format: what, where, found, expected.</summary>
    public static BlockException Invalid(string what, long? offset = null, string? found = null, string? expected = null) =>
        new(BlockErrorKind.InvalidData, what) { Offset = offset, Found = found, Expected = expected };

    /// <summary>A feature that is not supported, by name.</summary>
    public static BlockException Unsupported(string what, string? hint = null) =>
        new(BlockErrorKind.NotSupported, what) { Hint = hint };

    /// <summary>A limit of ours that outside data exceeded.</summary>
    public static BlockException Limit(string what, long found, long limit, long? offset = null) =>
        new(BlockErrorKind.LimitExceeded, what)
        {
            Offset = offset,
            Found = found.ToString(CultureInfo.InvariantCulture),
            Expected = "at most " + limit.ToString(CultureInfo.InvariantCulture),
        };
}
