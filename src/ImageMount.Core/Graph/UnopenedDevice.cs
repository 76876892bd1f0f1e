using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>Stands in for a parent that the user asked not to open: reading it is an error, never zeroes.</summary>
internal sealed class UnopenedDevice(string reference) : BlockDevice
{
    /// <summary>Longer than any disk, because the parent's length is not known and must not cut anything off.</summary>
    public override long Length => 1L << 62;

    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        throw new BlockException(
            BlockErrorKind.NotFound,
            $"these bytes are in '{reference}', which was not opened (no backing was asked for)");
}
