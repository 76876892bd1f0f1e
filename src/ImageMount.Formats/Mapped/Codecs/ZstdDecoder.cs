using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>
/// Zstandard frames (RFC 8878). A unit is one or more whole frames, with or without their content size; what follows
/// the frame that fills the unit is slack.
/// </summary>
public sealed class ZstdDecoder : IUnitDecoder
{
    private ZstdDecoder()
    {
    }

    /// <summary>The decoder; stateless.</summary>
    public static ZstdDecoder Instance { get; } = new();

    /// <summary>Fails with NotSupported when libzstd is missing: to be called when an image is opened, not read.</summary>
    public static void RequireLibrary()
    {
        if (!ZstdLibrary.IsAvailable)
        {
            throw BlockException.Unsupported(
                $"zstd compression needs {ZstdLibrary.FileName}, which could not be loaded",
                $"Install it: apt install {ZstdLibrary.DebianPackage}");
        }
    }

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded)
    {
        RequireLibrary();
        int filled = 0;
        while (filled < decoded.Length)
        {
            // Every round takes at least a frame header from the input, so it ends.
            if (!ZstdLibrary.TryFindFrame(stored, out int frame, out string? error)
                || !ZstdLibrary.TryDecompress(stored[..frame], decoded[filled..], out int written, out error))
            {
                throw BlockException.Invalid(
                    $"a zstd unit is damaged ({error})", null, $"{filled} bytes", $"{decoded.Length} bytes");
            }

            filled += written;
            stored = stored[frame..];
        }
    }
}
