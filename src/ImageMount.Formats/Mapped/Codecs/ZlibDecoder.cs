using System.IO.Compression;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>A deflate stream in its zlib container (RFC 1950), checksum verified; slack may follow it.</summary>
public sealed class ZlibDecoder : IUnitDecoder
{
    private static readonly Func<Stream, Stream> Open =
        input => new ZLibStream(input, CompressionMode.Decompress, leaveOpen: true);

    private readonly bool _mayBeLonger;

    private ZlibDecoder(bool mayBeLonger) => _mayBeLonger = mayBeLonger;

    /// <summary>Exactly one unit.</summary>
    public static ZlibDecoder Instance { get; } = new(mayBeLonger: false);

    /// <summary>
    /// For a last unit that the end of the disk cuts off: writers store the whole unit or only what lies inside, so
    /// bytes after the part that is wanted are dropped (and the checksum, which comes after them, is not seen).
    /// </summary>
    public static ZlibDecoder Prefix { get; } = new(mayBeLonger: true);

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded) =>
        InflateDecoder.Decode(stored, decoded, Open, zlib: true, _mayBeLonger);
}
