using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// Stands where a parent would be that the user asked not to open (<c>OpenFlags.NoBacking</c>): as large as any, and an
/// error to read, so that nobody takes the absence of data for zeroes.
/// </summary>
public sealed class MissingParent : BlockDevice
{
    private readonly string _reference;

    private MissingParent(string reference) => _reference = reference;

    /// <inheritdoc/>
    public override long Length => long.MaxValue;

    /// <summary>Makes the node.</summary>
    /// <param name="reference">The parent as the image names it.</param>
    public static BlockNode Create(string reference) => new(reference, "missing", new MissingParent(reference));

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        throw new BlockException(
            BlockErrorKind.NotFound, $"the range is defined by '{_reference}', which was not opened")
        {
            Hint = "Open the image with its backing file.",
        };
}
