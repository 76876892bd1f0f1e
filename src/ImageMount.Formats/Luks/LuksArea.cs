using ImageMount.Core.Block;

namespace ImageMount.Formats.Luks;

/// <summary>
/// Where a LUKS header and its key material are: the start of an image, a file of their own, or a part of a qcow2 image.
/// Offsets are relative to its beginning.
/// </summary>
/// <param name="node">The node.</param>
/// <param name="offset">Its first byte there.</param>
/// <param name="length">Its bytes.</param>
public sealed class LuksArea(BlockNode node, long offset, long length)
{
    /// <summary>Bytes.</summary>
    public long Length { get; } = length;

    /// <summary>True when key slots can be changed.</summary>
    public bool CanWrite => node.CanWrite;

    /// <summary>All of a node.</summary>
    public static LuksArea Of(BlockNode node) => new(node, 0, node.Length);

    /// <summary>Reads; what lies behind the end is InvalidData that says what was looked for.</summary>
    public async ValueTask ReadAsync(long at, Memory<byte> buffer, string what, CancellationToken cancellationToken)
    {
        if (at < 0 || at > Length - buffer.Length)
        {
            throw BlockException.Invalid(
                $"{what} lies outside the file", at, $"0x{at:x}+0x{buffer.Length:x}", $"0…0x{Length:x}");
        }

        await node.ReadAsync(offset + at, buffer, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes.</summary>
    public ValueTask WriteAsync(long at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken) =>
        node.WriteAsync(offset + at, buffer, WriteFlags.None, cancellationToken);

    /// <summary>Makes what was written durable.</summary>
    public ValueTask FlushAsync(CancellationToken cancellationToken) => node.FlushAsync(cancellationToken);
}
