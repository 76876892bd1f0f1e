using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>An .xz stream of exactly one unit, checksums verified; slack may follow it.</summary>
public sealed class XzDecoder : IUnitDecoder
{
    /// <summary>Most memory for the decoder of one unit, bytes: that of <c>xz -9</c>, with room to spare.</summary>
    public const long MaxMemory = 128L << 20;

    private XzDecoder()
    {
    }

    /// <summary>The decoder; stateless.</summary>
    public static XzDecoder Instance { get; } = new();

    /// <summary>Fails with NotSupported when liblzma is missing: for when an image is opened, not read.</summary>
    public static void RequireLibrary()
    {
        if (!LzmaLibrary.IsAvailable)
        {
            throw BlockException.Unsupported(
                $"lzma compression needs {LzmaLibrary.FileName}, which could not be loaded",
                $"Install it: apt install {LzmaLibrary.DebianPackage}");
        }
    }

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded)
    {
        RequireLibrary();
        if (!LzmaLibrary.TryDecompress(stored, decoded, MaxMemory, out int written, out string? error)
            || written < decoded.Length)
        {
            throw BlockException.Invalid(
                $"an xz unit is damaged ({error ?? "it is too short"})", null, $"{written} bytes",
                $"{decoded.Length} bytes");
        }
    }
}
