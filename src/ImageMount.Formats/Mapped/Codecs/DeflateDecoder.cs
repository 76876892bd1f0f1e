using System.IO.Compression;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>A bare deflate stream (RFC 1951) of exactly one unit; slack may follow it.</summary>
public sealed class DeflateDecoder : IPrefixDecoder
{
    private static readonly Func<Stream, Stream> Open =
        input => new DeflateStream(input, CompressionMode.Decompress, leaveOpen: true);

    private DeflateDecoder()
    {
    }

    /// <summary>The decoder; stateless.</summary>
    public static DeflateDecoder Instance { get; } = new();

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded) =>
        InflateDecoder.Decode(stored, decoded, Open, zlib: false, mayBeLonger: false);

    /// <inheritdoc/>
    public void DecodePrefix(ReadOnlySpan<byte> stored, Span<byte> decoded) =>
        InflateDecoder.DecodeStream(stored, decoded, Open, mayBeLonger: true);
}
